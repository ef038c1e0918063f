"""The first weights are the model's, made here or apart; the server that asks for them never loads torch."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from common import wire
from common.errors import ConfigError, RunError
from common.models import build_model
from common.models.pretrained import starting_weights
from common.plan import Strategy, Training
from server.beginning import FIRST, made_apart, read_first
from tests.helpers.plans import small_plan

PLAIN = Training(momentum=0.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["FedAvg", "SCAFFOLD"])
def test_made_apart_they_are_the_same_in_the_same_order(tmp_path, name):
    plan = small_plan(strategy=Strategy(name=name), training=PLAIN)
    (tmp_path / FIRST).write_bytes(made_apart(plan, None))
    here, there = starting_weights(plan, None), read_first(tmp_path / FIRST)
    assert list(here) == list(there) == list(wire.Schema.exchanged(plan, build_model(plan)).shapes)
    assert all(np.array_equal(here[key], there[key]) for key in here)
    model = wire.get_weights(build_model(plan))
    assert all(np.array_equal(here[key], model[key]) for key in model)
    assert all(not here[key].any() for key in here.keys() - model.keys())


@pytest.mark.slow
def test_what_is_wrong_is_said_here(tmp_path):
    plan = small_plan(model={"pretrained": "a" * 64})
    with pytest.raises(ConfigError, match="pretrained"):
        made_apart(plan, None)


@pytest.mark.slow
def test_a_process_that_dies_is_said(monkeypatch):
    monkeypatch.setattr("server.beginning._make", _dies)
    with pytest.raises(RunError, match="ended with code 3"):
        made_apart(small_plan(), None)


def _dies(pipe, plan, pretrained):
    import os

    os._exit(3)


@pytest.mark.slow
def test_whoever_asks_loads_no_torch(tmp_path):
    script = (
        "import sys\nfrom server.beginning import made_apart\nfrom server import runner\n"
        "from common.plan import Plan\n"
        "if __name__ == '__main__':\n"
        "    assert len(made_apart(Plan(name='x'), None)) > 1000\n    print('torch' in sys.modules)\n"
    )
    place, file = Path(__file__).parents[2], tmp_path / "asks.py"
    file.write_text(script)
    done = subprocess.run(
        [sys.executable, str(file)],
        capture_output=True,
        text=True,
        timeout=120,
        env={"PYTHONPATH": str(place)},
    )
    assert done.stdout == "False\n", done.stderr[-500:]
