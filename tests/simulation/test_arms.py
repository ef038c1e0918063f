"""Where each arm keeps what its sites keep: no two share a folder."""

from itertools import product
from pathlib import Path

import pytest

from client.alone import alone_plan
from common import wire
from common.arms import CENTRALISED, FEDERATED, local_arm
from common.config import load_yaml
from common.errors import RunError
from common.methods import METHODS
from common.models import build_model
from common.plan import Plan, Privacy
from server.checkpoint import Checkpoint, save_checkpoint
from simulation import runs
from simulation.arms import arm_plan, memory_folder
from simulation.scenario import Machine
from tests.helpers.plans import small_plan
from tests.helpers.simulated import PLAIN, run, scenario_of


def test_only_what_crosses_between_hospitals_is_coded(tmp_path):
    plain, coded = small_plan(), small_plan(codec={"name": "int4"})
    hidden = small_plan(aggregation={"secure": True, "threshold": 2})
    for arm in (FEDERATED, CENTRALISED, local_arm("a")):
        assert arm_plan(plain, arm, tmp_path) == (plain, tmp_path / "plan.yaml")
    assert arm_plan(coded, FEDERATED, tmp_path) == (coded, tmp_path / "plan.yaml")
    alone, file = arm_plan(coded, CENTRALISED, tmp_path)
    assert alone.sha256 == plain.sha256 == load_yaml(file, Plan).sha256
    assert arm_plan(hidden, FEDERATED, tmp_path)[0] == hidden
    assert arm_plan(hidden, local_arm("a"), tmp_path)[0] == plain


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_hospital_alone_has_no_server_s_rule_and_no_noise(tmp_path, name):
    """What it would train without a federation, by the one definition of it; with all patients in one place
    privacy stays, as that model is for others too."""
    method = METHODS[name]
    given = {"strategy": {"name": name}, "training": PLAIN}
    privacy = Privacy(epsilon=1.0, delta=1e-3) if method.private else None
    plan, plain = small_plan(**given, privacy=privacy), small_plan(training=PLAIN)
    assert arm_plan(plan, FEDERATED, tmp_path) == (plan, tmp_path / "plan.yaml")
    assert arm_plan(plan, local_arm("a"), tmp_path)[0] == alone_plan(plan) == plain
    assert arm_plan(plan, CENTRALISED, tmp_path)[0] == plain.model_copy(update={"privacy": privacy})


@pytest.mark.slow
def test_an_arm_that_another_version_began_otherwise_is_refused(tmp_path):
    scenario = scenario_of("FedAdam", simulation=Machine(threads=1, arms=("local_only",)))
    folder = tmp_path / "arms/local-hospital-a"
    runs.start(tmp_path, scenario)
    folder.mkdir(parents=True)
    before = Checkpoint(1, wire.get_weights(build_model(scenario.plan)))
    save_checkpoint(folder, before, scenario.plan.sha256)
    with pytest.raises(RunError, match="resume with the plan, and the version, that the run was started"):
        run(scenario, tmp_path)


def test_no_two_arms_or_sites_share_a_memory():
    sites = ["a", "b", "federated"]
    arms = [FEDERATED, CENTRALISED, *map(local_arm, sites)]
    assert len(set(arms)) == len(arms)
    folders = {memory_folder(Path("run"), arm, site) for arm, site in product(arms, sites)}
    assert len(folders) == len(arms) * len(sites)
    assert all(Path("run/arms") in folder.parents for folder in folders)
