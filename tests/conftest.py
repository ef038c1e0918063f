"""Shared by all tests: small hospitals, and the rule that under CI no tool may be missing."""

import os
import sys
from pathlib import Path

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"
# Test workers, and the processes that they start, share the cores: a thread each, and none that waits by spinning.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"

import pytest
from hypothesis import settings

from tests.helpers import warm


def pytest_configure(config):
    if not config.getoption("numprocesses", None):  # else this process tests nothing: it needs no torch
        from client.compute.device import set_up_process

        set_up_process(1)
    warm.install()
    settings.register_profile("suite", deadline=None)  # a machine that is busy is no fault of the code
    settings.load_profile("suite")


def pytest_collection_modifyitems(items):
    """Each test worker begins with its share of the long tests: at the end only short ones are left to fill all."""
    n = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    slow, fast = ([t for t in items if bool(t.get_closest_marker("slow")) is s] for s in (True, False))
    cuts = [k * len(fast) // n for k in range(n + 1)]
    items[:] = [t for k in range(n) for t in (*slow[k::n], *fast[cuts[k] : cuts[k + 1]])]


@pytest.fixture
def federation(tmp_path):
    """plan -> node configurations of three small sites, for a grid."""
    from common.config import dump_yaml
    from tests.helpers.cohorts import make_cohort

    def make(plan, n_sites: int = 3, n_patients: int = 30):
        plan_file = tmp_path / "plan.yaml"
        plan_file.write_text(dump_yaml(plan))
        return [
            {
                "site": f"site-{i}",
                "cohorts": str(make_cohort(tmp_path / f"cohort-{i}-{n_patients}", n_patients, i, plan)),
                "plan": str(plan_file),
                "device": "cpu",
            }
            for i in range(n_sites)
        ]

    return make


@pytest.fixture
def place(tmp_path):
    """A server that serves, and two admitted sites: (its folder, its service, name -> site's folder)."""
    from tests.helpers.local_sites import make_server, make_site

    server, service = make_server(tmp_path)
    sites = {name: make_site(tmp_path, name, server) for name in ("north", "south")}
    service.follow_admissions()
    yield server, service, sites
    service.stop()


@pytest.fixture
def coordinator(tmp_path):
    """A server's folder with its CA and its signing key."""
    from server.provision import init_server
    from server.settings import ServerFolder, ServerSettings

    folder = ServerFolder(tmp_path / "server")
    init_server(folder, ServerSettings(host="localhost"))
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch, capsys):
    """Run the command in this process, from `tmp_path`: as `pneumofed`, without five seconds of imports."""
    from types import SimpleNamespace

    from tests.helpers.built import main

    def run(*args: str):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["pneumofed", *args])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as e:
            code = e.code or 0
        out = capsys.readouterr()
        return SimpleNamespace(returncode=code, stdout=out.out, stderr=out.err)

    return run


@pytest.fixture
def pneumofed(tmp_path):
    """Run the command in a process of its own; returns the finished process."""

    def run(*args: str, timeout: float = 240, cwd: Path = tmp_path, check: bool = False):
        done = warm.run(args, cwd, timeout)
        if check:
            assert done.returncode == 0, done.stderr
        return done

    return run
