"""The hospital's own model is the simulation's, to the last bit, however often it was cut off."""

import contextlib
import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from client.alone import Alone, alone_plan
from client.imaging.cohort import Cohort
from common.config import dump_yaml, load_yaml
from common.errors import RunError
from common.plan import Plan, Privacy
from server.checkpoint import load_checkpoint
from server.provision import init_server
from server.settings import ServerFolder, ServerSettings
from simulation.scenario import Machine, Scenario
from tests.helpers.local_sites import make_site
from tests.helpers.plans import small_plan
from tests.helpers.simulated import PLAIN, run, scenario_of


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    out = tmp_path_factory.mktemp("alone") / "run"
    run(scenario_of("FedAvg", simulation=Machine(threads=1, arms=("local_only",))), out)
    return out


CHOOSES = {"select": "best", "patience": 2}


@pytest.fixture
def site(simulated, tmp_path):
    return site_of(simulated, tmp_path)


def site_of(simulated, tmp_path):
    """The simulation's first hospital, as a real one has its folder."""
    server = ServerFolder(tmp_path / "server")
    init_server(server, ServerSettings(host="127.0.0.1"))
    (cohort,) = sorted((simulated / "cohorts").glob("*-a"))
    site = make_site(tmp_path, cohort.name, server)
    plan = load_yaml(simulated / "plan.yaml", Plan)
    shutil.copytree(cohort, site.cohort(plan))
    site.settings_file.write_text("server: localhost:443\ndevice: cpu\npolicy:\n  min_patients: 4\n")
    return site


def train_alone(site, plan):
    cohort = Cohort.open(site.cohort(plan))
    alone = Alone(site.path.name, cohort, site.alone(plan), torch.device("cpu"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return alone.train(plan, site.settings().policy)
    finally:
        torch.set_num_threads(threads)


def expected(simulated, site):
    plan = load_yaml(simulated / "plan.yaml", Plan)
    return load_checkpoint(simulated / "arms" / f"local-{site.path.name}", plan.sha256).weights


def same(folder, weights):
    found = load_file(folder / "model.safetensors")
    return found.keys() == weights.keys() and all(np.array_equal(found[k], weights[k]) for k in weights)


@pytest.mark.slow
def test_it_is_what_the_simulation_trains(simulated, site):
    plan = load_yaml(simulated / "plan.yaml", Plan)
    folder = train_alone(site, plan)
    assert same(folder, expected(simulated, site))
    assert {p.name for p in folder.iterdir()} == {"model.safetensors", "plan.yaml"}
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert train_alone(site, plan) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == before


RULES = {
    "adaptive": {"strategy": {"name": "FedAdam"}},
    "proximal": {"strategy": {"name": "FedProx", "options": {"proximal_mu": 1.0}}},
    "personal": {"strategy": {"name": "FedPer"}},
    "private": {"privacy": {"epsilon": 1.0, "delta": 1e-3, "steps": 2}},
}


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
def test_it_is_so_under_any_rule_of_the_federation(tmp_path_factory, tmp_path, rule):
    out = tmp_path_factory.mktemp("rule") / "run"
    machine = Machine(threads=1, arms=("local_only",))
    scenario = Scenario.model_validate(
        {**scenario_of("FedAvg", simulation=machine).model_dump(), **RULES[rule]}
    )
    run(scenario, out)
    site = site_of(out, tmp_path)
    plan = load_yaml(out / "plan.yaml", Plan)
    weights = load_checkpoint(out / "arms" / f"local-{site.path.name}", alone_plan(plan).sha256).weights
    assert same(train_alone(site, plan), weights)


@pytest.mark.slow
def test_it_stops_outside_the_hours_and_goes_on_where_it_was(simulated, site, monkeypatch):
    plan, answers = load_yaml(simulated / "plan.yaml", Plan), iter([None, "closed until 18:00"])
    monkeypatch.setattr("client.governance.policy.Policy.closed", lambda self, now: next(answers, None))
    with pytest.raises(RunError, match="closed until 18:00; 1 of 3 rounds are trained alone"):
        train_alone(site, plan)
    rounds = []
    real = Alone._round

    def counted(self, plan, number, weights):
        rounds.append(number)
        return real(self, plan, number, weights)

    monkeypatch.setattr(Alone, "_round", counted)
    assert same(train_alone(site, plan), expected(simulated, site))
    assert rounds == [2, 3]


@pytest.mark.slow
def test_the_best_round_and_patience_are_the_simulation_s(tmp_path_factory, tmp_path, monkeypatch):
    """Cut off before each round, too."""
    out = tmp_path_factory.mktemp("best") / "run"
    steep = PLAIN.model_copy(update={"learning_rate": 0.5})
    machine = Machine(threads=1, arms=("local_only",))
    run(scenario_of("FedAvg", simulation=machine, training=steep, rounds=6, evaluation=CHOOSES), out)
    site = site_of(out, tmp_path)
    plan = load_yaml(out / "plan.yaml", Plan)
    state = load_checkpoint(out / "arms" / f"local-{site.path.name}", plan.sha256)
    assert state.chosen(plan).round < state.round < plan.rounds  # the case is one
    told = json.loads((out / "metrics.json").read_text())
    federated = load_checkpoint(out / "arms/federated", plan.sha256)
    assert told["rounds"] == federated.round < plan.rounds
    chosen = told["chosen"]
    assert f"the model is that of round {chosen}, the best" in (out / "report.html").read_text()
    answers = iter([None, "closed"] * 9)
    monkeypatch.setattr("client.governance.policy.Policy.closed", lambda self, now: next(answers, None))
    for _ in range(state.round):
        with contextlib.suppress(RunError):
            train_alone(site, plan)
    assert same(site.alone(plan), state.chosen(plan).weights)
    assert {p.name for p in site.alone(plan).iterdir()} == {"model.safetensors", "plan.yaml"}


def test_a_hospital_alone_needs_no_noise_and_no_method():
    plan = small_plan(privacy=Privacy(epsilon=1.0, delta=1e-3), strategy={"name": "FedAvg"})
    assert alone_plan(plan).privacy is None
    assert alone_plan(small_plan(strategy={"name": "FedBN"})).strategy.name == "FedAvg"
    assert alone_plan(plan).split == plan.split


@pytest.mark.parametrize("cross", [0, 3])
def test_its_plan_can_be_read_whatever_the_federation_s_asks_for_at_the_end(tmp_path, cross):
    plan = small_plan(evaluation={"final": True, "alone": True, "cross": cross})
    (tmp_path / "plan.yaml").write_text(dump_yaml(alone_plan(plan)))
    assert load_yaml(tmp_path / "plan.yaml", Plan) == alone_plan(small_plan())
