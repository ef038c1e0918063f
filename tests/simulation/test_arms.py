"""Where each arm keeps what its sites keep: no two share a folder."""

from itertools import product
from pathlib import Path

from common.arms import CENTRALISED, FEDERATED, local_arm
from common.config import load_yaml
from common.plan import Plan
from simulation.arms import arm_plan, memory_folder
from tests.helpers.plans import small_plan


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


def test_no_two_arms_or_sites_share_a_memory():
    sites = ["a", "b", "federated"]
    arms = [FEDERATED, CENTRALISED, *map(local_arm, sites)]
    assert len(set(arms)) == len(arms)
    folders = {memory_folder(Path("run"), arm, site) for arm, site in product(arms, sites)}
    assert len(folders) == len(arms) * len(sites)
    assert all(Path("run/arms") in folder.parents for folder in folders)
