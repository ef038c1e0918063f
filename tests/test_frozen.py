"""What releases before left on disks, frozen: today's program opens it, and goes on with it to the end.

`tests/frozen/VERSION.tar.xz` was made by that version: a server with a finished, a private and a half run, two sites with
cohort, approvals, ledger and audit log, a model that was handed over, and the weights with which the half run ended
where nobody disturbed it. Its keys are nobody's. `tests/frozen/programs/VERSION.tar.xz` is the program itself. A release adds
both files; none is ever changed.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from safetensors.numpy import load_file

import pneumofed
from common.handover import read_model
from tests.helpers.deployment import Deployment, free_port, wait_for
from tests.helpers.plans import small_plan

pytestmark = pytest.mark.slow
PROGRAMS = Path(__file__).parent / "frozen" / "programs"
RELEASES = sorted((Path(__file__).parent / "frozen").glob("*.tar.xz"), key=lambda path: path.name)
SITES = ("north", "south")


@pytest.fixture(params=RELEASES, ids=lambda path: path.name.removesuffix(".tar.xz"))
def frozen(request):
    """A Deployment on the folders that the release left, on a port that is free today."""
    place, port = Path("/tmp") / f"pz-{os.getpid()}", free_port()
    place.mkdir(mode=0o700)
    with tarfile.open(request.param) as tar:
        tar.extractall(place, filter="data")
    (path,) = place.iterdir()
    for name in ("server", *SITES):
        (path / name).chmod(0o700)  # a tar's folders get the mode that is usual here
    for file in (path / "server/server.yaml", *(path / name / "hospital.yaml" for name in SITES)):
        file.write_text(re.sub(r"\b18555\b", str(port), file.read_text()))
    deployment = Deployment(path, small_plan(), port)
    yield deployment
    for name in list(deployment.processes):
        deployment.kill(name)
    shutil.rmtree(place)


def test_every_file_is_opened_and_says_what_it_said(frozen):
    d = frozen
    assert "2 rounds, 8 steps, 0 more reserved; alone epsilon 5.292" in d.at("north", "ledger")
    for name in SITES:
        assert "the chain is whole" in d.at(name, "audit", "verify")
        assert "Against the plan approved before" not in d.at(name, "pending")  # everything was decided
    states = json.loads(d.ask("runs", "--json"))
    assert {name: run["state"] for name, run in states.items()} == {
        "trial": "finished", "private": "finished", "long": "finished", "long-2": "stopped"
    }  # fmt: skip
    d.must("server", "dossier", str(d.server.runs / "trial"), "--out", str(d.path / "dossier"))
    model = d.path / "model"
    assert read_model(model).plan.name == "trial"
    assert pneumofed.open_model(model).plan.findings == ("pneumonia",)
    d.ask("renew", "signing")
    d.ask("export", "trial", "--out", str(d.path / "again"))
    assert (d.path / "again" / "model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()


def test_a_half_run_goes_on_to_the_weights_of_the_undisturbed_one(frozen):
    d = frozen
    for name in SITES:
        d.set(name, threads=2)  # as then
    d.ask("renew", "server")
    d.ask("renew", "sites")
    d.up(*SITES)
    wait_for("the sites", lambda: d.status()["connected"] == list(SITES), 60)
    d.ask("resume", "long-2")
    history = d.wait_finished("long-2", 180)
    assert [sorted(r["sites"]) for r in history] == [list(SITES)] * 6
    expected = load_file(d.path / "undisturbed.safetensors")
    found = d.weights("long-2")
    assert found.keys() == expected.keys()
    # With the threads and the processor of then they are the same to 1e-4. Others round otherwise, and six rounds magnify it.
    before = json.loads((d.server.runs / "long" / "history.json").read_text())
    for name in SITES:
        assert history[2]["sites"][name]["loss"] == pytest.approx(before[2]["sites"][name]["loss"], rel=0.02)
    distance = sum(float(((found[name] - expected[name]) ** 2).sum()) for name in expected)
    assert distance < 0.01 * sum(float((weight**2).sum()) for weight in expected.values())
    for name in SITES:
        assert "2 rounds, 8 steps" in d.at(name, "ledger")
        assert "the chain is whole" in d.at(name, "audit", "verify")


def of_then(d, folder):
    """The release's own program, not today's that claims to be it: what it is asked -> a process that begins with
    it, its folder, and what is written to whose log."""
    with tarfile.open(PROGRAMS / f"{d.path.name}.tar.xz") as tar:
        tar.extractall(folder, filter="data")

    def start(name, *words):
        with (d.path / f"{name}.out").open("ab") as log:
            # where the root command was at that time
            return subprocess.Popen(
                [sys.executable, "-m", "common.cli", *words],
                stdout=log, stderr=log, start_new_session=True, cwd=folder,
            )  # fmt: skip

    return start


def test_a_server_of_then_ends_a_run_with_agents_of_today(frozen, tmp_path):
    d = frozen
    d.ask("renew", "server")
    d.ask("renew", "sites")
    for name in SITES:
        d.at(name, "join", str(d.server.path / "certificates" / f"{name}.crt"))  # brought by people, as then
    start = of_then(d, tmp_path)
    d.processes["server"] = start("server", "server", "up", "--dir", str(d.server.path))
    wait_for("the server", lambda: (d.server.path / "control.sock").exists(), 60)
    for name in SITES:
        d.start(name)
    wait_for("the sites", lambda: "long-2" in d.log("server") or resumed(d, start), 120)
    history = d.server.runs / "long-2" / "history.json"
    wait_for("the end of the run", history.is_file, 300)  # as it was then
    assert [sorted(r["sites"]) for r in json.loads(history.read_text())] == [list(SITES)] * 6
    for name in SITES:
        assert "the chain is whole" in d.at(name, "audit", "verify")


def resumed(d, start):
    """Whether the server took it: it does once enough sites are there."""
    return start("then", "server", "resume", "long-2", "--dir", str(d.server.path)).wait(60) == 0


def test_an_agent_of_then_and_one_of_today_train_in_one_run(frozen, tmp_path):
    d = frozen
    d.ask("renew", "server")
    d.ask("renew", "sites")
    d.at("north", "join", str(d.server.path / "certificates" / "north.crt"))  # brought by people, as then
    d.up("south")
    start = of_then(d, tmp_path)
    d.processes["north"] = start("north", "client", "up", "--dir", str(d.site("north").path))
    wait_for("the sites", lambda: d.status()["connected"] == list(SITES), 120)
    d.ask("resume", "long-2")
    history = d.wait_finished("long-2")
    assert [sorted(r["sites"]) for r in history] == [list(SITES)] * 6
    assert "south runs pneumofed" in d.log("server")
    assert "north runs pneumofed" not in d.log("server")  # it could not say yet
    for name in SITES:
        assert "the chain is whole" in d.at(name, "audit", "verify")
