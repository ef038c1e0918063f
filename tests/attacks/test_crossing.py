"""Models that hospitals train alone leave and are judged by others as often as the plan says, after the final
scores, and where the hospital allows it."""

import pytest
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from client.governance.egress import KEEPS_CROSS
from client.governance.policy import Policy
from common import wire
from common.errors import RefusedError
from tests.helpers.gates import WEIGHTS, Site, weights
from tests.helpers.plans import small_plan

PLAN = small_plan(rounds=4, evaluation={"every": 2, "final": True, "alone": True, "cross": 3})
FINAL, OWN, OTHER = wire.EVALUATE_FINAL, wire.EVALUATE_OWN, wire.EVALUATE_OTHER


@pytest.fixture
def site(tmp_path):
    """Before its final scores."""
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
    site = Site(tmp_path, PLAN)
    site.policy = Policy(min_patients=10, final=True, cross=True)
    return site


@pytest.fixture
def finished(site):
    """After them."""
    assert not site.ask(FINAL, 4, alone=True).has_error()
    return site


def auroc(reply):
    return reply.content[wire.METRICS][wire.AUROC]


def test_ever_other_models_get_as_many_answers_as_the_plan_has(finished):
    answered = set()
    for k in range(20):
        try:
            answered.add(k) if not finished.ask(OTHER, 4, k).has_error() else None
        except RefusedError as e:
            assert "has judged 3 models" in str(e)
        if k == 10:
            finished.restart()
    assert answered == {0, 1, 2}


def test_the_same_model_gets_the_recorded_answer_over_restarts(finished):
    assert auroc(finished.ask(OTHER, 4, 1)) == 0.75
    finished.restart()
    assert auroc(finished.ask(OTHER, 4, 1, **{wire.AUROC: 0.9})) == 0.75


def test_another_run_has_no_turn(finished):
    for run in ("r2", "r3"):
        with pytest.raises(RefusedError):
            finished.admit(OTHER, 4, 1, run)


@pytest.mark.parametrize("kind", [OWN, OTHER])
def test_the_final_scores_come_first(site, kind):
    with pytest.raises(RefusedError, match="final scores come first"):
        site.admit(kind, 4)
    site.admit(FINAL, 4)  # asked for, and not told
    with pytest.raises(RefusedError, match="final scores come first"):
        site.admit(kind, 4)


@pytest.mark.parametrize("kind", [OWN, OTHER])
@pytest.mark.parametrize("number", [1, 2, 3, 5])
def test_there_are_none_before_the_end(finished, kind, number):
    with pytest.raises(RefusedError):
        finished.admit(kind, number)


@pytest.mark.parametrize("kind", [OWN, OTHER])
def test_a_plan_or_a_policy_without_them_gives_none(finished, tmp_path, kind):
    other = Site(tmp_path / "other", small_plan(rounds=4, evaluation={"final": True, "alone": True}))
    other.policy = finished.policy
    other.ask(FINAL, 4, alone=True)
    with pytest.raises(RefusedError, match=r"evaluation\.cross"):
        other.admit(kind, 4)
    for policy in (Policy(final=True), Policy(cross=True), Policy(final=True, cross=True, metrics=False)):
        finished.policy = policy
        with pytest.raises(RefusedError) as refused:
            finished.admit(kind, 4)
        assert str(refused.value) == KEEPS_CROSS


@pytest.mark.parametrize("kind", [OWN, OTHER])
def test_a_policy_that_became_stricter_keeps_the_answer(finished, kind):
    admitted = finished.admit(kind, 4)
    finished.policy = Policy(final=True)
    assert finished.release(admitted).error.reason == KEEPS_CROSS


@pytest.mark.parametrize("kind", [OWN, OTHER])
def test_too_few_patients_keep_the_answer(finished, kind):
    assert "fewer than 10 patients" in finished.ask(kind, 4, **{wire.N_EXAMPLES: 9}).error.reason


def test_a_site_shows_one_model_of_its_own_for_ever(finished):
    assert not finished.ask(OWN, 4).has_error()
    finished.restart()
    assert not finished.ask(OWN, 4).has_error()
    admitted = finished.admit(OWN, 4)
    content = RecordDict(
        {wire.ARRAYS: wire.pack(weights(1)), wire.METRICS: MetricRecord({wire.N_EXAMPLES: 50})}
    )
    kept = finished.gate.release(admitted, Message(content, reply_to=admitted.request), finished.policy)
    assert "another model of this site's own left before" in kept.error.reason


RIDING = {
    "a number": {wire.METRICS: MetricRecord({wire.N_EXAMPLES: 50, wire.LOSS: 0.1})},
    "a tensor": {wire.ARRAYS: wire.pack({**WEIGHTS, "jane": WEIGHTS["head.3.bias"]})},
    "a record": {wire.CONFIG: ConfigRecord({"name": "Jane Doe"})},
}


@pytest.mark.parametrize("more", RIDING.values(), ids=RIDING)
def test_nothing_rides_along(finished, more):
    admitted = finished.admit(OWN, 4)
    honest = {wire.ARRAYS: wire.pack(WEIGHTS), wire.METRICS: MetricRecord({wire.N_EXAMPLES: 50})}
    reply = Message(RecordDict({**honest, **more}), reply_to=admitted.request)
    kept = finished.gate.release(admitted, reply, finished.policy)
    assert kept.has_error()
    assert "jane" not in kept.error.reason.lower()
