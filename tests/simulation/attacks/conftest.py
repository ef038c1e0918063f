"""A small private run, finished."""

import pytest
import yaml

from tests.helpers.plans import PRIVATE


@pytest.fixture
def run(here, tmp_path, monkeypatch):
    monkeypatch.setattr("simulation.attacks.inversion.STEPS", 30)  # how well it draws: test_inversion.py
    plan = {**PRIVATE, "simulation": {"arms": [], "threads": 1}}
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan))
    assert here("simulate", "plan.yaml", "--out", "run").returncode == 0
    return tmp_path / "run"
