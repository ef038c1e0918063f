import pytest
from pydantic import ValidationError

from common.plan import Plan
from common.plan.objections import objections

NO_VALIDATION = {"split": {"validation": 0.0}}
PRIVACY = {"privacy": {"epsilon": 1.0, "delta": 1e-3}}
SECURE = {"aggregation": {"secure": True, "threshold": 2}}
FINAL = {"evaluation": {"final": True}}
ALONE = {"evaluation": {"final": True, "alone": True}}
BEST = {"evaluation": {"select": "best"}}
SCAFFOLD = {"strategy": {"name": "SCAFFOLD"}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": {"encoder": "densenet121"}, "input": {"size": 28}}, "found input.size 28, expected at"),
        ({"model": {"encoder": "vit_tiny"}, "input": {"size": 28}}, "found 16, which does not divide input.size"),
        ({"training": {"early_stopping": 3}, **NO_VALIDATION}, "early_stopping needs validation patients"),
        ({"training": {"early_stopping": 3}, **PRIVACY}, "early_stopping looks at validation patients without"),
        ({"training": {"class_weighting": "balanced"}, **PRIVACY}, "class_weighting counts patients without"),
        ({"privacy": {**PRIVACY["privacy"], "threshold": True}, **NO_VALIDATION}, "privacy.threshold needs"),
        ({**FINAL, **PRIVACY}, "without noise"),
        ({**FINAL, **NO_VALIDATION}, "evaluation.final needs validation patients"),
        ({"rounds": 0}, "rounds 0, which judges a finished model"),
        ({"rounds": 0, **FINAL}, "rounds 0, which judges a finished model"),
        ({**ALONE, "model": {"pretrained": "0" * 64}}, "do not have the pretrained weights"),
        ({**BEST, **NO_VALIDATION}, "found split.validation 0"),
        ({**BEST, **PRIVACY}, "found privacy"),
        ({**BEST, "strategy": {"name": "FedBN"}}, "with strategy FedBN sites keep"),
        ({**BEST, "strategy": {"name": "Ditto"}}, "with strategy Ditto sites keep"),
        ({"strategy": {"name": "Ditto"}, **PRIVACY}, "strategy Ditto keeps tensors at the sites"),
        (SCAFFOLD, "SCAFFOLD is defined for plain SGD"),
        ({**SCAFFOLD, "training": {"momentum": 0.0, "early_stopping": 3}}, "SCAFFOLD needs all steps"),
        ({**SECURE, "strategy": {"name": "Krum"}}, "Krum looks at single updates"),
        ({**SECURE, "codec": {"name": "int8", "top": 0.5}}, "codec.top leaves out most numbers"),
        ({**SECURE, "evaluation": {**ALONE["evaluation"], "cross": 2}}, "aggregation.secure hides it"),
    ],
)  # fmt: skip
def test_groups_that_do_not_go_together_are_refused(changes, said):
    with pytest.raises(ValidationError, match=said):
        Plan(name="a", **changes)


def test_all_that_speaks_against_a_plan_is_said_and_nothing_against_one_that_can_be_run():
    assert list(objections(Plan(name="a", **ALONE, **SECURE))) == []
    unchecked = Plan(name="a").model_copy(update={"rounds": 0, "strategy": Plan(name="b", strategy={
        "name": "Krum"}).strategy, "aggregation": Plan(name="b", **SECURE).aggregation})  # fmt: skip
    first, second = objections(unchecked)
    assert first.startswith("found rounds 0")
    assert second.startswith("strategy Krum")
