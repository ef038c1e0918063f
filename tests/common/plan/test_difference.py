from hypothesis import given

from common.plan import Plan, Training
from common.plan.difference import diff_plans
from tests.helpers.plans import PLANS


@given(PLANS, PLANS)
def test_the_diff_is_empty_exactly_for_equal_plans(one, other):
    assert (diff_plans(one, other) == []) == (one == other) == (one.sha256 == other.sha256)


def test_the_diff_reads_like_a_sentence():
    before, after = Plan(name="a"), Plan(name="a", rounds=3, training=Training(clip_norm=None))
    assert diff_plans(before, after) == ["rounds: 10 -> 3", "training.clip_norm: 1.0 -> null"]
