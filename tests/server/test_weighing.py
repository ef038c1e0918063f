"""One hospital counts as one hospital."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import WireError
from common.plan import Federation, Plan, Privacy
from server.weighing import Scale, largest_weight, unlike
from tests.helpers.plans import small_plan


def test_caps_by_hand():
    assert largest_weight([10, 20, 30], 0.5) == math.inf  # 30 of 60 is half
    assert largest_weight([10, 20, 90], 0.5) == 30
    assert largest_weight([2**24, 20, 20, 20, 20], 0.5) == 80
    assert largest_weight([100, 100, 1, 1], 0.3) == pytest.approx(1.5)  # 0.3 * (c + c + 2) = c
    assert largest_weight([100, 50, 1], 0.2) == 1  # three cannot have a fifth each: all alike
    assert largest_weight([10, 1000], 0.5) == math.inf
    assert largest_weight([10, 10, 1000], 1.0) == math.inf
    assert largest_weight([math.nan, 10, 10, 50], 0.5) == 20


@given(st.lists(st.integers(1, 10**6), min_size=3, max_size=12), st.floats(0.05, 1.0))
def test_nobody_has_more_than_the_share_and_nobody_is_cut_for_nothing(weights, share):
    cap = largest_weight(weights, share)
    counted = np.minimum(weights, cap)
    if share * len(weights) >= 1:
        assert counted.max() <= share * counted.sum() * (1 + 1e-9)
        assert cap == math.inf or counted.max() == pytest.approx(share * counted.sum())
    else:
        assert len(set(counted)) == 1
    if max(weights) <= share * sum(weights):
        assert cap == math.inf


def test_a_site_counts_for_what_it_declared_and_no_more():
    scale = Scale(small_plan(), {"a": 20, "b": 30, "c": 2**24, "d": math.nan})
    assert scale.weigh("a", 20) == 20
    assert scale.weigh("a", 15) == 15  # somebody was forgotten
    with pytest.raises(WireError, match="found 16777216 patients, it declared 20 when this run greeted it"):
        scale.weigh("a", 2**24)
    assert scale.capped == {}
    assert scale.weigh("c", 2**24) == 50
    with pytest.raises(WireError, match="it declared none when this run greeted it"):
        scale.weigh("d", 2**24)
    assert set(scale.capped) == {"c"}
    assert "counts as 50 of its 16777216 patients (federation.max_share 0.5)" in scale.capped["c"]


def test_under_privacy_all_count_alike():
    scale = Scale(small_plan(privacy=Privacy(epsilon=3.0, delta=1e-4)), {"a": 20, "b": 30})
    assert scale.weigh("a", 1) == 1
    with pytest.raises(WireError, match="under privacy every site counts as one"):
        scale.weigh("b", 2)


def test_the_share_is_the_plan_s_and_older_plans_keep_their_hash():
    plan = Plan(name="p")
    assert "max_share" not in plan.model_dump(mode="json")["federation"]
    other = Plan(name="p", federation=Federation(max_share=1.0))
    assert plan.sha256 != other.sha256
    assert Scale(other, {"a": 1, "b": 1, "c": 100}).weigh("c", 100) == 100


def test_a_norm_unlike_the_others_is_noted():
    honest = {"a": 1.0, "b": 1.1, "c": 0.9, "d": 1.05}
    assert unlike(honest) == {}
    assert unlike({**honest, "e": 40.0}) == {"e": "an update of norm 40, the others' median is 1.05"}
    assert set(unlike({**honest, "e": 0.0})) == {"e"}
    assert unlike({"a": 1.0, "b": 40.0, "c": 1.0}) == {}  # too few to judge
    assert set(unlike({"a": 1.0, "b": 1.0, "c": 1.0, "d": 1.0, "e": 2.0})) == {"e"}
