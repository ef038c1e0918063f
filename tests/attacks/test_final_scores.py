"""The last model's scores on test patients leave once, for the weights that the site was shown, and as
agreed."""

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from client.governance.egress import KEEPS_FINAL
from client.governance.policy import Policy
from common import wire
from common.audit import read_entries
from common.errors import RefusedError
from common.results.final import answer_text, read_answer
from tests.helpers.gates import Site
from tests.helpers.plans import small_plan
from tests.helpers.results import final_answer

PLAN = small_plan(rounds=4, evaluation={"every": 2, "final": True})
FINAL = wire.EVALUATE_FINAL


@pytest.fixture
def site(tmp_path):
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
    site = Site(tmp_path, PLAN)
    site.policy = Policy(min_patients=10, final=True)
    return site


def told(reply):
    return read_answer(wire.get_text(reply.content, wire.FINAL), PLAN.findings, alone=False)


def test_ever_other_weights_get_one_answer_for_ever(site):
    answered, runs = 0, ["r1"] * 20 + [f"r{i}" for i in range(2, 10)]
    for k, run in enumerate(runs):
        try:
            answered += not site.ask(FINAL, 4, k, run).has_error()
        except RefusedError:
            continue
    assert answered == 1


def test_the_same_question_gets_the_recorded_answer_over_restarts(site):
    assert told(site.ask(FINAL, 4, 7)) == final_answer(seed=0)
    site.restart()
    assert told(site.ask(FINAL, 4, 7, seed=1)) == final_answer(seed=0)


def test_it_is_the_model_that_was_evaluated_last(site):
    site.ask("evaluate", 4, 7)
    with pytest.raises(RefusedError, match="other weights than this site was shown"):
        site.admit(FINAL, 4, 8)
    assert not site.ask(FINAL, 4, 7).has_error()


@pytest.mark.parametrize("number", [1, 2, 3])
def test_there_are_none_before_the_end(site, number):
    with pytest.raises(RefusedError, match="no final scores after round"):
        site.admit(FINAL, number)


def test_a_plan_or_a_policy_without_them_gives_none(site, tmp_path):
    other = Site(tmp_path / "other", small_plan(rounds=4))
    other.policy = Policy(final=True)
    with pytest.raises(RefusedError, match="no final scores"):
        other.admit(FINAL, 4)
    for policy in (Policy(), Policy(final=True, metrics=False)):
        site.policy = policy
        with pytest.raises(RefusedError) as refused:
            site.admit(FINAL, 4)
        assert str(refused.value) == KEEPS_FINAL


def test_a_policy_that_became_stricter_keeps_them(site):
    admitted = site.admit(FINAL, 4)
    site.policy = Policy(min_patients=10)
    assert site.release(admitted).error.reason == KEEPS_FINAL


def test_a_cell_of_too_few_patients_keeps_all_of_it(site):
    site.policy = Policy(min_patients=11, final=True)  # the cells are of ten
    reply = site.ask(FINAL, 4)
    assert "fewer than 11 patients are behind a final number" in reply.error.reason


@pytest.mark.parametrize(
    "texts",
    [
        {wire.FINAL: "Jane Doe"},
        {wire.FINAL: answer_text(final_answer()), "more": "Jane Doe"},
        {wire.FINAL: answer_text(final_answer())[:-3] + ', "more": "Jane Doe"}'},
        {},
    ],
)
def test_nothing_rides_along(site, texts):
    admitted = site.admit(FINAL, 4)
    reply = Message(RecordDict({wire.CONFIG: ConfigRecord(texts)}), reply_to=admitted.request)
    kept = site.gate.release(admitted, reply, site.policy)
    assert kept.has_error()
    assert "Jane" not in kept.error.reason


def test_every_number_of_it_is_in_the_audit_log(site):
    reply = site.ask(FINAL, 4)
    (sent,) = [e for e in read_entries(site.folder / "audit.log") if e.event == "sent"]
    assert sent.facts["final"] == wire.get_text(reply.content, wire.FINAL)
