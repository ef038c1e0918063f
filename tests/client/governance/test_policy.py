import datetime

import pytest

from client.governance.policy import Hours, Policy
from common.config import validate
from common.errors import ConfigError
from common.plan import Input, Training
from tests.helpers.plans import small_plan


def test_the_default_policy_allows_an_ordinary_plan():
    assert Policy().objections(small_plan()) == []


@pytest.mark.parametrize(
    ("policy", "plan", "said"),
    [
        ({"findings": ("pneumonia",)}, {"findings": ("pneumonia", "hiv")}, "finding hiv"),
        ({"encoders": ()}, {}, "encoder cnn3"),
        ({"modalities": ("xray",)}, {"input": Input(modality="ct")}, "modality ct"),
        ({"max_rounds": 5}, {"rounds": 6}, "6 rounds: the policy allows 5"),
        ({"max_epochs": 1}, {"training": Training(epochs=2)}, "2 epochs"),
    ],
)
def test_each_rule_names_what_it_does_not_allow(policy, plan, said):
    (objection,) = Policy(**policy).objections(small_plan(**plan))
    assert said in objection


@pytest.mark.parametrize(
    ("start", "end", "moment", "open_"),
    [
        ("00:00", "24:00", "23:59", True), ("08:00", "17:00", "07:59", False), ("08:00", "17:00", "08:00", True),
        ("08:00", "17:00", "17:00", False), ("20:00", "06:00", "23:00", True), ("20:00", "06:00", "05:59", True),
        ("20:00", "06:00", "06:00", False), ("20:00", "06:00", "12:00", False),
    ],
)  # fmt: skip
def test_hours_may_span_midnight(start, end, moment, open_):
    assert Hours(start=start, end=end).open_at(datetime.time.fromisoformat(moment)) is open_


@pytest.mark.parametrize("text", ["8", "25:00", "12:60", "noon", "24:01", "²0:00", "8:3²", ""])
def test_a_wrong_time_is_refused(text):
    with pytest.raises(ConfigError, match="expected a time"):
        validate({"hours": {"start": text}}, Policy, "hospital.yaml")


def test_a_paused_or_closed_site_says_so():
    noon = datetime.datetime(2026, 1, 1, 12)
    assert Policy().closed(noon) is None
    assert "paused" in (Policy(paused=True).closed(noon) or "")
    assert "20:00 to 06:00" in (Policy(hours=Hours(start="20:00", end="06:00")).closed(noon) or "")
