import numpy as np
import pytest
from safetensors.numpy import load_file

from common.config import load_yaml
from common.plan import Plan
from server.checkpoint import load_checkpoint
from simulation.scenario import Machine
from tests.helpers.simulated import run, scenario_of


@pytest.mark.slow
def test_what_a_hostile_site_sends_is_coded_as_the_plan_says(tmp_path):
    simulation = Machine(threads=1, arms=(), hostile={"hospital-b": -3.0})
    scenario = scenario_of("FedAvg", simulation=simulation, codec={"name": "int8"})
    run(scenario.model_copy(update={"rounds": 1}), tmp_path / "run")
    plan = load_yaml(tmp_path / "run" / "plan.yaml", Plan)
    checkpoint = load_checkpoint(tmp_path / "run" / "arms" / "federated", plan.sha256)
    (report,) = checkpoint.history
    norms = {site: numbers["update_norm"] for site, numbers in report.sites.items()}
    assert not report.failed
    assert norms["hospital-b"] > 2 * min(norms.values())


@pytest.mark.slow
def test_a_hostile_site_changes_what_it_sends_and_the_pool_knows_it_too(tmp_path):
    weights = []
    for engine in ("sequential", "pool"):
        simulation = Machine(engine=engine, workers=2, threads=1, arms=(), hostile={"hospital-b": -3.0})
        scenario = scenario_of("FedAvg", simulation=simulation).model_copy(update={"rounds": 1})
        run(scenario, tmp_path / engine)
        weights.append(load_file(tmp_path / engine / "model.safetensors"))
    honest = scenario_of("FedAvg", simulation=Machine(threads=1, arms=())).model_copy(update={"rounds": 1})
    run(honest, tmp_path / "honest")
    plain = load_file(tmp_path / "honest" / "model.safetensors")
    assert all(np.array_equal(weights[0][n], weights[1][n]) for n in plain)
    assert any(not np.array_equal(weights[0][n], plain[n]) for n in plain)
