"""Which round's weights are the result, against plain loops over the rounds."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from common.results.rounds import Evaluation, RoundReport
from common.selection import (
    Verdict,
    chosen_round,
    evaluation_of,
    goes_on,
    may_be_chosen,
    verdicts_of,
    weighted_median,
)
from tests.helpers.plans import small_plan

LOSS = st.one_of(st.sampled_from([0.1, 0.2, 0.3, math.nan]), st.floats(0.0, 2.0))


def said(losses):
    """Round -> what one site said."""
    return {k: {"a": Verdict(loss)} if math.isfinite(loss) else {} for k, loss in losses.items()}


def plan_of(rounds=6, split=None, **evaluation):
    return small_plan(rounds=rounds, evaluation=evaluation, **({"split": split} if split else {}))


@given(st.lists(LOSS, min_size=1, max_size=6))
def test_the_best_round_is_the_first_of_lowest_loss(found):
    losses = dict(enumerate(found, start=1))
    for last in losses:
        best, lowest = last, math.inf
        for number in range(1, last + 1):
            if losses[number] < lowest:
                best, lowest = number, losses[number]
        assert chosen_round(plan_of(select="best"), said(losses), last) == best
        assert chosen_round(plan_of(select="last"), said(losses), last) == last


@given(st.lists(LOSS, min_size=1, max_size=6), st.integers(1, 3))
def test_a_run_ends_when_patience_is_over_and_never_later_than_its_plan(found, patience):
    plan = plan_of(rounds=len(found), select="best", patience=patience)
    losses: dict[int, float] = {}
    waited, lowest, ended = 0, math.inf, None
    for number, loss in enumerate(found, start=1):
        losses[number] = loss
        waited, lowest = (0, loss) if loss < lowest else (waited + (lowest < math.inf), lowest)
        if ended is None and (waited >= patience or number == len(found)):
            ended = number
        assert goes_on(plan, said(losses), number) is (number != ended)
        if number == ended:
            break
    assert goes_on(plan, {}, 0)


def test_without_any_score_the_last_round_is_the_result():
    plan = plan_of(select="best", patience=1)
    assert chosen_round(plan, {}, 4) == 4
    assert chosen_round(plan, {2: {}, 4: {}}, 4) == 4
    assert goes_on(plan, {2: {}, 4: {}}, 4)


def test_a_site_judges_at_the_end_what_the_plan_can_choose():
    best, last = plan_of(select="best", every=2), plan_of(every=2)
    assert [n for n in range(8) if may_be_chosen(best, n)] == [2, 4, 6]
    assert [n for n in range(8) if may_be_chosen(last, n)] == [6]


def test_verdicts_are_those_of_the_rounds_that_were_judged():
    sites = {
        "a": {"loss": 0.5, "num-examples": 7.0},
        "b": {"loss": math.nan, "num-examples": 3.0},
    }
    told = {"loss": 0.5, "auroc": 0.9, "brier": 0.1, "temperature": 1.0, "auroc_se": 0.1}
    judged = Evaluation(**told, sites=sites, failed={"c": "is gone"})
    none = {"bytes_down": 0, "bytes_up": 0, "sites": {}, "failed": {}}
    history = [RoundReport(round=1, **none), RoundReport(round=2, **none, evaluation=judged)]
    assert verdicts_of(history) == {2: {"a": Verdict(0.5, 7.0)}}
    assert evaluation_of(history, 2) is judged
    assert evaluation_of(history, 1) is None


@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(1, 9)), min_size=1, max_size=9))
def test_the_weighted_median_is_the_median_of_values_repeated_by_weight(pairs):
    values, weights = [v for v, _ in pairs], [w for _, w in pairs]
    assert weighted_median(values, weights) == np.median(np.repeat(values, weights))


def test_two_sites_are_weighed_by_their_patients():
    rounds = {
        1: {"a": Verdict(0.5, 30), "b": Verdict(0.5, 10)},
        2: {"a": Verdict(0.4, 30), "b": Verdict(0.7, 10)},
    }
    assert chosen_round(plan_of(select="best"), rounds, 2) == 2
    rounds[2]["b"] = Verdict(0.9, 10)
    assert chosen_round(plan_of(select="best"), rounds, 2) == 1


def test_a_round_is_not_better_because_a_site_with_hard_patients_missed_it():
    rounds = {
        1: {"a": Verdict(0.3, 10), "b": Verdict(0.4, 10), "hard": Verdict(0.9, 10)},
        2: {"a": Verdict(0.31, 10), "b": Verdict(0.41, 10)},  # the mean falls from 0.53 to 0.36
    }
    assert chosen_round(plan_of(select="best"), rounds, 2) == 1
    rounds[3] = {"others": Verdict(0.0, 10)}
    assert chosen_round(plan_of(select="best"), rounds, 3) == 1  # nobody judged both


CURVE = (0.9, 0.5, 0.4, 0.6, 0.7, 0.8)
LIE = st.floats(0.0, 1e6) | st.none()


@given(
    st.lists(LIE, min_size=6, max_size=6),
    st.integers(2, 5),
    st.floats(1.0, 2.0**24),
    st.lists(st.floats(0.0, 0.5), min_size=5, max_size=5),
)
def test_one_liar_neither_chooses_the_round_nor_ends_the_run(lies, n_honest, patients, levels):
    """Whatever it says and however many patients it claims, where the honest agree which rounds are better."""
    honest = {
        k: {f"site-{i}": Verdict(loss + levels[i], 20.0 + i) for i in range(n_honest)}
        for k, loss in enumerate(CURVE, start=1)
    }
    with_liar = {
        k: {**judged, **({} if lie is None else {"liar": Verdict(lie, patients)})}
        for (k, judged), lie in zip(honest.items(), lies, strict=True)
    }
    plan = plan_of(select="best", patience=2)
    for last in range(1, 7):
        seen = {k: with_liar[k] for k in range(1, last + 1)}
        assert chosen_round(plan, seen, last) == chosen_round(plan, honest, last)
        assert goes_on(plan, seen, last) == goes_on(plan, honest, last)
