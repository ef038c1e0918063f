import json
from pathlib import Path

import pytest
from pydantic import Field

from common.config import dump_yaml, load_yaml
from common.plan import Evaluation, Plan, Window, canonical_json
from common.plan.difference import diff_plans


def test_the_hash_depends_on_values_not_on_order_or_spacing():
    tree = Plan(name="a").model_dump(mode="json")
    backwards = dict(reversed(list(tree.items())))
    assert canonical_json(tree) == canonical_json(json.loads(json.dumps(backwards, indent=4)))


OLDER = Path(__file__).with_name("older")
OLD = {
    # As version 0.1 hashed them: an approval, a checkpoint and a model are known by these for ever.
    "configs/quickstart.yaml": "7c47b799382a1d70d5aa1be50953e28eeadbd2d59a63d8848a91990ae809b632",
    "configs/pneumoniamnist-private.yaml": "4012dfa06658babff4429fc35e34d4340098034ff4c2a7248da156209dee30bb",
    "configs/kermany.yaml": "55ca90183c450a75f98dfbe6fa4651d5d3e3b50887bd70129e8376a73b64094e",
}


@pytest.mark.parametrize("sha256", OLD.values(), ids=OLD)
def test_a_plan_of_version_0_1_keeps_its_hash(sha256):
    plan = load_yaml(OLDER / f"{sha256[:12]}.yaml", Plan)
    assert plan.sha256 == sha256
    assert dump_yaml(plan) == (OLDER / f"{sha256[:12]}.yaml").read_text()


class NextEvaluation(Evaluation):
    """As any next version may have it."""

    rule: str = "strict"
    limits: Window = Window(center=0.0, width=1.0)


class NextPlan(Plan):
    """As any next version may have it."""

    evaluation: NextEvaluation = NextEvaluation()
    budget: float | None = None
    masks: int = Field(default_factory=lambda: 3)


@pytest.mark.parametrize("sha256", OLD.values(), ids=OLD)
def test_a_next_version_with_more_keys_keeps_the_hash_of_what_was_agreed(sha256):
    path = OLDER / f"{sha256[:12]}.yaml"
    plan = load_yaml(path, NextPlan)
    assert plan.sha256 == sha256
    assert dump_yaml(plan) == path.read_text()
    for key in (
        "evaluation.rule=lax",
        "evaluation.limits={center: 0.0, width: 2.0}",
        "budget=1.0",
        "masks=4",
    ):
        assert load_yaml(path, NextPlan, [key]).sha256 != sha256


def test_a_key_that_says_its_default_is_as_good_as_none():
    path = OLDER / f"{OLD['configs/quickstart.yaml'][:12]}.yaml"
    assert load_yaml(path, Plan, ["evaluation.final=false"]).sha256 == OLD["configs/quickstart.yaml"]
    final = load_yaml(path, Plan, ["evaluation.final=true"])
    assert final.sha256 != OLD["configs/quickstart.yaml"]
    assert diff_plans(load_yaml(path, Plan), final) == ["evaluation.final: (absent) -> true"]
