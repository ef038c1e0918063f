"""Shared by all tests: small hospitals, and the rule that under CI no tool may be missing."""

import os
import sys
from pathlib import Path

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"

import pytest

from client.compute.device import set_up_process
from common.config import dump_yaml
from common.plan import Plan
from tests.helpers.cohorts import make_cohort


def pytest_configure(config):
    set_up_process(2)


@pytest.fixture
def federation(tmp_path):
    """plan -> node configurations of three small sites, for a grid."""

    def make(plan: Plan, n_sites: int = 3, n_patients: int = 30):
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
def here(tmp_path, monkeypatch, capsys):
    """Run the command in this process, from `tmp_path`: as `pneumofed`, without five seconds of imports."""
    from types import SimpleNamespace

    from pneumofed.cli import main

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
    """Run the command as a user does; returns the finished process."""
    import subprocess

    def run(*args: str, timeout: float = 240, cwd: Path = tmp_path, check: bool = False):
        command = [sys.executable, "-m", "pneumofed.cli", *args]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd=cwd)
        if check:
            assert done.returncode == 0, done.stderr
        return done

    return run
