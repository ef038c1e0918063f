from pathlib import Path

import pytest

from common.config import load_yaml
from common.errors import ConfigError
from common.plan import Plan, evaluates, require_current

OLDER = Path(__file__).with_name("older")


def test_a_rule_that_is_gone_can_be_read_and_starts_nothing():
    """The hash is what version 0.1 gave this plan: cards and approvals name it."""
    path = OLDER / "7c47b799382a.yaml"
    plan = load_yaml(path, Plan, ["evaluation.threshold=accuracy"])
    assert plan.sha256 == "74aeb551e320f1f21e10cb3d79a90892eac7df1c4b964c3fd1658144847996e7"
    with pytest.raises(ConfigError, match="set youden, or sensitivity"):
        require_current(plan)
    for rule in ("youden", "sensitivity"):
        require_current(load_yaml(path, Plan, [f"evaluation.threshold={rule}"]))


def test_a_plan_of_no_rounds_is_validated_never():
    plan = Plan(name="a", rounds=0, evaluation={"final": True}, model={"pretrained": "0" * 64})
    assert not evaluates(plan, 0)


def test_under_privacy_the_last_round_alone_is_judged_if_the_plan_says_so():
    privacy = {"epsilon": 1.0, "delta": 1e-3}
    told = Plan(name="p", rounds=3, privacy={**privacy, "threshold": True}, evaluation={"every": 0})
    assert {number for number in range(5) if evaluates(told, number)} == {3}
    silent = Plan(name="p", rounds=3, privacy={**privacy, "threshold": False})
    assert not any(evaluates(silent, number) for number in range(5))
    assert silent.sha256 == Plan(name="p", rounds=3, privacy=privacy).sha256
    assert "threshold" not in silent.model_dump()["privacy"]
