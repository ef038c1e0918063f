"""A server gets what the plan says, no oftener: a curious server against the site's record on the disk."""

import tempfile
from pathlib import Path

import pytest
from flwr.supercore.task_identity import TaskIdentity
from hypothesis import given, settings
from hypothesis import strategies as st

from common import wire
from common.errors import RefusedError
from common.plan import evaluates
from tests.helpers.gates import PLAN, Site
from tests.helpers.plans import small_plan


def brier(answer):
    return answer.content.metric_records[wire.METRICS][wire.BRIER]


def test_ever_other_weights_get_one_answer_a_due_round(site):
    """The old attack: 1,548 evaluations of one round, each with other weights, told each patient's score."""
    answered = 0
    for number in range(1, PLAN.rounds + 1):
        for k in range(20):
            try:
                answered += not site.ask("evaluate", number, k).has_error()
            except RefusedError:
                continue
    assert answered == sum(evaluates(PLAN, n) for n in range(1, PLAN.rounds + 1)) == 3


@pytest.mark.parametrize(
    "plan",
    [
        small_plan(rounds=6, evaluation={"every": 0}),
        small_plan(rounds=6, split={"validation": 0.0}),
    ],
)
def test_a_plan_without_evaluation_gets_none(tmp_path, site, plan):
    other = Site(tmp_path / "other", plan)
    for number in range(1, 7):
        with pytest.raises(RefusedError, match="no evaluation after round"):
            other.admit("evaluate", number)


def test_the_same_question_gets_the_recorded_answer_over_restarts(site):
    site.ask("train", 2)
    assert brier(site.ask("evaluate", 2, 7)) == 0.25
    site.restart()
    assert brier(site.ask("evaluate", 2, 7, brier=0.26)) == 0.25
    with pytest.raises(RefusedError, match="with other weights"):
        site.admit("evaluate", 2, 8)


def test_two_open_evaluations_do_not_get_two_answers(site):
    first, second = site.admit("evaluate", 2, 7), site.admit("evaluate", 2, 7)
    assert brier(site.release(first)) == brier(site.release(second, brier=0.3)) == 0.25


def test_what_was_evaluated_is_what_the_next_round_trains_from(site):
    site.ask("train", 2)
    site.ask("evaluate", 2, 7)
    with pytest.raises(RefusedError, match="other weights than were evaluated"):
        site.admit("train", 3, 8)
    assert not site.ask("train", 3, 7).has_error()


def test_a_server_that_comes_back_is_served_but_learns_nothing_more(site):
    site.ask("train", 2, 1)
    site.ask("evaluate", 2, 7)
    assert not site.ask("train", 2, 1).has_error()  # it crashed before its checkpoint
    with pytest.raises(RefusedError, match="with other weights"):
        site.admit("evaluate", 2, 8)  # other sites answered this time
    assert not site.ask("train", 3, 8).has_error()


def test_a_query_gets_the_same_answer_until_a_person_releases_another(site):
    """The old attack: two queries, with a patient and without, told the patient's label."""

    def positives(**changes):
        return site.ask("query", **changes).content.metric_records[wire.METRICS]["positive:pneumonia"]

    assert positives() == 20
    changes = {
        "positive:pneumonia": 21,
        wire.N_TRAIN: 51,
        "length-1": 51,
        wire.N_EXAMPLES: 51,
    }
    site.restart()
    assert positives(**changes) == 20
    site.approvals.approve(PLAN.sha256)
    assert positives(**changes) == 21


def test_a_stricter_policy_holds_for_what_was_recorded_too(site):
    site.ask("query")
    site.policy = site.policy.model_copy(update={"min_patients": 25})
    told = site.ask("query", **{"positive:pneumonia": 25, "negative:pneumonia": 25})
    assert told.content.metric_records[wire.METRICS]["positive:pneumonia"] != 20


MESSAGES = st.lists(
    st.tuples(
        st.sampled_from(["train", "evaluate"]),
        st.integers(1, 6),
        st.integers(0, 2),
        st.booleans(),
    ),
    max_size=12,
)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(MESSAGES)
def test_in_whatever_order_each_round_has_one_evaluation(messages):
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
    with tempfile.TemporaryDirectory() as folder:
        site, answers = Site(Path(folder)), {}
        for i, (kind, number, k, restarts) in enumerate(messages):
            if restarts:
                site.restart()
            try:
                answer = site.ask(
                    kind,
                    number,
                    k,
                    **({wire.BRIER: i / 100} if kind == "evaluate" else {}),
                )
            except RefusedError:
                continue
            if kind == "evaluate":
                answers.setdefault(number, set()).add((k, brier(answer)))
        assert all(len(told) == 1 and evaluates(PLAN, number) for number, told in answers.items())
