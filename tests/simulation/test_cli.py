"""The researcher's commands, as their user meets them."""

import pytest
import typer
from pydantic_core import PydanticSerializationError

from simulation import cli
from tests.helpers.command import refused
from tests.helpers.plans import small_scenario


@pytest.mark.slow
def test_bad_plans_are_refused(here, plan, tmp_path):
    refused(here("simulate", "absent.yaml"), "absent.yaml: no such file")
    refused(here("simulate", plan, "--set", "training.lr=0.1"), "training.lr: unknown key")
    refused(here("simulate", plan, "--set", "rounds=many"), "rounds: found 'many', expected integer")
    refused(here("simulate", plan, "--set", "simulation.device=cuda:99"), "device: found 'cuda:99'")
    refused(here("simulate", plan, "--set", "strategy.options.mu=1"), "FedAvg has no 'mu'")


def test_the_phantom_alone(here, tmp_path):
    done = here("phantom", "--out", "p", "--sites", "2", "--patients", "3", "--seed", "1")
    assert "hospital-b" in done.stdout
    assert (tmp_path / "p/hospital-a/labels.csv").exists()
    refused(here("phantom", "--out", "p"), "exists already")


@pytest.mark.parametrize(
    "raised",
    [KeyboardInterrupt(), PydanticSerializationError("Error calling function `f`: KeyboardInterrupt: ")],
)
def test_a_ctrl_c_that_falls_into_a_plan_s_hash_is_one_all_the_same(tmp_path, monkeypatch, capsys, raised):
    """pydantic wraps what is raised while it calls back: seen once in some twenty runs."""

    def interrupted(*_):
        raise raised

    monkeypatch.setattr("simulation.simulate.simulate", interrupted)
    with pytest.raises(typer.Exit) as ended:
        cli._run(small_scenario(), tmp_path)
    assert ended.value.exit_code == 130
    assert "--resume" in capsys.readouterr().err


def test_a_fault_of_pydantic_s_is_none(tmp_path, monkeypatch):
    def fails(*_):
        raise PydanticSerializationError("Error calling function `f`: ValueError: x")

    monkeypatch.setattr("simulation.simulate.simulate", fails)
    with pytest.raises(PydanticSerializationError):
        cli._run(small_scenario(), tmp_path)
