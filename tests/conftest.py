"""Shared by all tests: small hospitals, and the rule that under CI no tool may be missing."""

import os
import shutil
import sys
from pathlib import Path

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"

import numpy as np
import pytest

from client.compute.device import set_up_process
from client.imaging.cohort import build_cohort
from client.imaging.frames import Frame, InMemory
from client.imaging.outcome import Tally
from client.imaging.sequence import Collection, Sequence
from common.config import dump_yaml
from common.plan import Input, Model, Plan, Training
from simulation.scenario import Scenario

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_configure(config):
    set_up_process(2)


def require_tool(name: str) -> str:
    """The tool's path; without it the test is skipped, and fails under CI."""
    path = shutil.which(name)
    if path is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"needs the program {name}")
    return path


def require_data(*parts: str) -> Path:
    """A file or folder of the real data, which is not in the repository."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"needs the real data {'/'.join(parts)}")
    return path


def small_plan(**changes) -> Plan:
    """A plan whose rounds take a fraction of a second."""
    values = {
        "name": "small",
        "seed": 5,
        "rounds": 2,
        "min_patients": 4,
        "input": Input(size=16, max_frames=4),
        "model": Model(width=4, embedding=8, hidden=8),
        "training": Training(batch_size=4, learning_rate=0.05),
    }
    return Plan(**{**values, **changes})


def small_scenario(**changes) -> Scenario:
    return Scenario(**{**{k: getattr(small_plan(), k) for k in Plan.model_fields}, **changes})


def make_sequences(n: int, seed: int = 0, findings: int = 1, size: int = 16) -> list[Sequence]:
    """`n` patients; the positive ones have a bright corner in their last image."""
    rng = np.random.default_rng(seed)
    sequences = []
    for i in range(n):
        images = rng.uniform(0, 0.5, (int(rng.integers(1, 5)), size, size)).astype(np.float32)
        labels = np.full(findings, i % 2, np.float32)
        images[-1, :6, :6] += 0.5 * (i % 2)
        frames = tuple(Frame(3.0 * k, InMemory(image)) for k, image in enumerate(images))
        sequences.append(Sequence(f"patient-{seed}-{i}", frames, labels))
    return sequences


def make_cohort(folder: Path, n: int = 30, seed: int = 0, plan: Plan | None = None) -> Path:
    plan = plan or small_plan()
    build_cohort(
        folder,
        Collection(make_sequences(n, seed, len(plan.findings)), Tally()),
        plan.input,
        plan.findings,
        b"key",
        "stamp",
    )
    return folder


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
