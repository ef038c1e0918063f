"""One hospital counts as one hospital."""

import math

import pytest

from common.errors import WireError
from common.plan import Federation, Plan, Privacy
from server.weighing import Scale, unlike
from tests.helpers.plans import small_plan


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


def test_the_share_of_those_that_answered_is_of_all_that_were_ever_here():
    scale = Scale(small_plan(), {"a": 20, "b": 30, "c": 2**24, "d": math.nan}, away={"e": 50, "f": math.nan})
    assert scale.share(20 + 50) == 70 / 150
    assert Scale(small_plan(), {"a": 20, "b": 30}).share(50) == 1.0


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


def test_one_that_went_away_has_no_larger_share_than_the_plan_allows():
    """Two are left, whom no cap holds: a third that had declared a continent stopped the server's variate."""
    assert Scale(small_plan(), {"a": 20, "b": 30}, away={"c": 1e7}).share(50) == 0.5
