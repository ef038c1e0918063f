"""Which round's weights are the result, against plain loops over the rounds."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import ConfigError
from common.plan import Plan
from common.results.rounds import Evaluation, RoundReport
from common.selection import chosen_round, evaluation_of, goes_on, losses_of, may_be_chosen
from tests.helpers.plans import small_plan

LOSS = st.one_of(st.sampled_from([0.1, 0.2, 0.3, math.nan]), st.floats(0.0, 2.0))


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
        assert chosen_round(plan_of(select="best"), losses, last) == best
        assert chosen_round(plan_of(select="last"), losses, last) == last


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
        assert goes_on(plan, losses, number) is (number != ended)
        if number == ended:
            break
    assert goes_on(plan, {}, 0)


def test_without_any_score_the_last_round_is_the_result():
    plan = plan_of(select="best", patience=1)
    assert chosen_round(plan, {}, 4) == 4
    assert chosen_round(plan, {2: math.nan, 4: math.nan}, 4) == 4
    assert goes_on(plan, {2: math.nan, 4: math.nan}, 4)


def test_a_site_judges_at_the_end_what_the_plan_can_choose():
    best, last = plan_of(select="best", every=2), plan_of(every=2)
    assert [n for n in range(8) if may_be_chosen(best, n)] == [2, 4, 6]
    assert [n for n in range(8) if may_be_chosen(last, n)] == [6]


def test_losses_are_those_of_the_rounds_that_were_judged():
    told = {"auroc": 0.9, "brier": 0.1, "temperature": 1.0, "auroc_se": 0.1, "sites": {}, "failed": {}}
    judged = Evaluation(loss=0.5, **told)
    none = {"bytes_down": 0, "bytes_up": 0, "sites": {}, "failed": {}}
    history = [RoundReport(round=1, **none), RoundReport(round=2, **none, evaluation=judged)]
    assert losses_of(history) == {2: 0.5}
    assert evaluation_of(history, 2) is judged
    assert evaluation_of(history, 1) is None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"evaluation": {"select": "best", "every": 0}}, "found every 0"),
        ({"evaluation": {"patience": 2}}, "set select best too"),
        ({"evaluation": {"select": "best"}, "split": {"validation": 0.0}}, "found split.validation 0"),
        ({"evaluation": {"select": "best"}, "privacy": {"epsilon": 1.0, "delta": 1e-3}}, "found privacy"),
        ({"evaluation": {"select": "best"}, "strategy": {"name": "FedBN"}}, "with strategy FedBN sites keep"),
        ({"evaluation": {"select": "best"}, "strategy": {"name": "Ditto"}}, "with strategy Ditto sites keep"),
    ],
)
def test_a_plan_whose_best_round_nobody_can_know_is_refused(changes, why):
    tree = {**small_plan().model_dump(mode="json"), **changes}
    with pytest.raises((ConfigError, ValueError), match=why):
        Plan.model_validate(tree)
