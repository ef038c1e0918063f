import json
from pathlib import Path

import pytest
from hypothesis import example, given
from pydantic import Field, ValidationError

from common.config import dump_yaml, load_yaml
from common.errors import ConfigError
from common.models.encoders import ENCODERS
from common.plan import Evaluation, Model, Plan, Window, canonical_json, evaluates, require_current
from common.plan_diff import diff_plans
from tests.helpers.plans import PLANS


@example(Plan(name="0e0"))  # text that looks like a number
@given(PLANS)
def test_a_plan_survives_yaml_with_its_hash(tmp_path_factory, plan):
    path = tmp_path_factory.mktemp("plan") / "plan.yaml"
    path.write_text(dump_yaml(plan))
    again = load_yaml(path, Plan)
    assert again == plan
    assert again.sha256 == plan.sha256


def test_the_hash_depends_on_values_not_on_order_or_spacing():
    tree = Plan(name="a").model_dump(mode="json")
    backwards = dict(reversed(list(tree.items())))
    assert canonical_json(tree) == canonical_json(json.loads(json.dumps(backwards, indent=4)))


def test_a_plan_cannot_be_changed():
    with pytest.raises(ValidationError):
        Plan(name="a").rounds = 5


def test_every_encoder_of_the_plan_exists():
    assert set(Model.model_fields["encoder"].annotation.__args__) == set(ENCODERS)


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


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rounds": 0}, "rounds 0, which judges a finished model"),
        ({"rounds": 0, "evaluation": {"final": True}}, "rounds 0, which judges a finished model"),
        ({"evaluation": {"alone": True}}, "set final too"),
        ({"evaluation": {"final": True, "cross": 2}}, "set alone too"),
        (
            {
                "evaluation": {"final": True, "alone": True, "cross": 2},
                "aggregation": {"secure": True, "threshold": 2},
            },
            "aggregation.secure hides it",
        ),
        (
            {"codec": {"name": "int8", "top": 0.5}, "aggregation": {"secure": True, "threshold": 2}},
            "codec.top leaves out most numbers",
        ),
        ({"evaluation": {"final": True}, "split": {"validation": 0.0}}, "needs validation patients"),
        ({"evaluation": {"final": True}, "privacy": {"epsilon": 1.0, "delta": 1e-3}}, "without noise"),
        (
            {"privacy": {"epsilon": 1.0, "delta": 1e-3, "threshold": True}, "split": {"validation": 0.0}},
            "privacy.threshold needs",
        ),
        (
            {"evaluation": {"final": True, "alone": True}, "model": {"pretrained": "0" * 64}},
            "do not have the pretrained weights",
        ),
    ],
)
def test_final_scores_that_cannot_be_told_are_refused(changes, said):
    with pytest.raises(ValidationError, match=said):
        Plan(name="a", **changes)


def test_a_rule_that_is_gone_can_be_read_and_starts_nothing():
    """The hash is what version 0.1 gave this plan: cards and approvals name it."""
    path = OLDER / f"{OLD['configs/quickstart.yaml'][:12]}.yaml"
    plan = load_yaml(path, Plan, ["evaluation.threshold=accuracy"])
    assert plan.sha256 == "74aeb551e320f1f21e10cb3d79a90892eac7df1c4b964c3fd1658144847996e7"
    with pytest.raises(ConfigError, match="set youden, or sensitivity"):
        require_current(plan)
    for rule in ("youden", "sensitivity"):
        require_current(load_yaml(path, Plan, [f"evaluation.threshold={rule}"]))


def test_a_wanted_sensitivity_goes_with_its_rule():
    plan = Plan(name="a", evaluation={"threshold": "sensitivity", "sensitivity": 0.95})
    assert plan.sha256 != Plan(name="a", evaluation={"threshold": "sensitivity"}).sha256
    with pytest.raises(ValidationError, match="set threshold sensitivity too"):
        Plan(name="a", evaluation={"sensitivity": 0.95})


def test_a_plan_of_no_rounds_is_validated_never():
    plan = Plan(name="a", rounds=0, evaluation={"final": True}, model={"pretrained": "0" * 64})
    assert not evaluates(plan, 0)


def test_labels_of_visits_are_another_plan_and_those_of_patients_the_same():
    plan = Plan(name="a")
    assert "label" not in plan.input.model_dump()
    assert Plan(name="a", input={"label": "patient"}).sha256 == plan.sha256
    assert Plan(name="a", input={"label": "visit"}).sha256 != plan.sha256
    with pytest.raises(ValueError, match="label visit is about serial X-rays"):
        Plan(name="a", input={"label": "visit", "modality": "ct"})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": {"adapters": 4}}, "name their file in pretrained"),
        ({"model": {"adapters": 4, "pretrained": "0" * 64, "frozen_stages": 1}}, "leave frozen_stages or"),
        ({"model": {"encoder": "densenet121"}, "input": {"size": 28}}, "found input.size 28, expected at"),
        (
            {"model": {"encoder": "vit_tiny"}, "input": {"size": 28}},
            "found 16, which does not divide input.size",
        ),
    ],
)
def test_an_encoder_that_could_not_train_as_it_is_asked_to_is_refused(changes, said):
    with pytest.raises(ValidationError, match=said):
        Plan(name="a", **changes)


def test_under_privacy_the_last_round_alone_is_judged_if_the_plan_says_so():
    privacy = {"epsilon": 1.0, "delta": 1e-3}
    told = Plan(name="p", rounds=3, privacy={**privacy, "threshold": True}, evaluation={"every": 0})
    assert {number for number in range(5) if evaluates(told, number)} == {3}
    silent = Plan(name="p", rounds=3, privacy={**privacy, "threshold": False})
    assert not any(evaluates(silent, number) for number in range(5))
    assert silent.sha256 == Plan(name="p", rounds=3, privacy=privacy).sha256
    assert "threshold" not in silent.model_dump()["privacy"]
