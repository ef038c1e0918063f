"""A decision holds at the moment of release: whatever is decided while a request is worked on."""

import math

import pytest

from client.governance.accounting import epsilon
from client.governance.ledger import Ledger, Purpose
from client.governance.policy import Hours, Policy
from common import wire
from common.errors import RefusedError
from tests.helpers.gates import Site
from tests.helpers.plans import small_plan

DECISIONS = {
    "deny": lambda site: site.approvals.deny(site.plan.sha256),
    "the decision's file is gone": lambda site: (
        site.approvals.plan_file(site.plan.sha256).with_name("decision.json").unlink()
    ),
    "the plan is changed": lambda site: site.approvals.plan_file(site.plan.sha256).write_text("rounds: 9"),
    "paused": lambda site: allow(site, paused=True),
    "hours": lambda site: allow(site, hours=Hours(start="00:00", end="00:00")),
    "findings": lambda site: allow(site, findings=("covid",)),
    "encoder": lambda site: allow(site, encoders=("resnet18",)),
    "rounds": lambda site: allow(site, max_rounds=2),
    "only private": lambda site: allow(site, only_private=True),
    "more patients": lambda site: allow(site, min_patients=60),
    "a patient is forgotten, or a new ingest": lambda site: setattr(site, "cohort", "cohort 2"),
    "the cohort is gone": lambda site: setattr(site, "cohort", ""),
}


def allow(site, **changes):
    site.policy = site.policy.model_copy(update=changes)


@pytest.mark.parametrize("kind", ["query", "train", "evaluate"])
@pytest.mark.parametrize("decision", DECISIONS)
def test_what_is_decided_during_the_work_keeps_its_answer(site, decision, kind):
    admitted = site.admit(kind, 2)
    DECISIONS[decision](site)
    answer = site.release(admitted)
    assert answer.has_error()
    assert not answer.has_content()
    assert site.events()[-1] == "refused"


def test_metrics_that_are_closed_during_an_evaluation_stay(site):
    admitted = site.admit("evaluate", 2)
    allow(site, metrics=False)
    assert site.release(admitted).has_error()


@pytest.mark.parametrize("kind", ["query", "train", "evaluate"])
@pytest.mark.parametrize("decision", DECISIONS)
def test_what_is_decided_before_an_answer_has_arrived_keeps_it(site, decision, kind):
    """The line was down when it was released: it was sent all the same when the line came back."""
    admitted = site.admit(kind, 2)
    answer = site.release(admitted)
    assert site.gate.reconsider(admitted, answer, site.policy) is answer
    DECISIONS[decision](site)
    kept = site.gate.reconsider(admitted, answer, site.policy)
    assert kept.has_error()
    assert not kept.has_content()
    assert site.events()[-1] == "refused"
    assert site.gate.reconsider(admitted, kept, site.policy) is kept


@pytest.mark.parametrize("tightened", [{"epsilon": 0.5}, {"delta": 1e-9}])
def test_a_budget_that_is_lowered_during_the_work_keeps_its_answer(tmp_path, tightened):
    plan = small_plan(privacy={"epsilon": 4.0, "delta": 1e-5, "steps": 2, "clip": 1.0})
    site = Site(tmp_path, plan)
    site.policy = Policy(min_patients=10, epsilon=5.5, delta=1e-5)
    private = {wire.N_EXAMPLES: wire.PRIVATE_WEIGHT, wire.LOSS: math.nan, wire.SECONDS: math.nan}
    ledger = Ledger(tmp_path / "ledger.sqlite")
    admitted = site.admit("train", 1)
    ledger.reserve([f"p{k}" for k in range(40)], Purpose(plan.sha256, "r1", 1), (1.0, 0.1, 40), None)
    spent = epsilon(ledger.history(), 1e-5)
    assert 0.5 < spent < 5.0 < epsilon(ledger.history(), 1e-9)
    assert not site.release(admitted, **private).has_error()
    site.policy = site.policy.model_copy(update={"epsilon": 5.0})
    assert not site.release(admitted, **private).has_error()
    allow(site, **tightened)
    assert "budget does not allow" in site.release(admitted, **private).error.reason


def test_a_round_is_not_answered_again_on_another_cohort_until_a_person_says_so(site):
    """Training is seeded: the difference of the two answers would be of the patient who was forgotten."""
    site.ask("train", 2, 1)
    assert not site.ask("train", 2, 1).has_error()  # a server that crashed asks again
    site.cohort = "cohort 2"
    with pytest.raises(RefusedError, match="approve the plan again"):
        site.admit("train", 2, 1)
    site.restart()
    with pytest.raises(RefusedError, match="approve the plan again"):
        site.admit("train", 2, 1)
    site.approvals.approve(site.plan.sha256)
    assert not site.ask("train", 2, 1).has_error()
    assert not site.ask("train", 3, 1).has_error()


def test_what_never_left_is_no_answer(site):
    """The cohort was changed while it was worked on: of what it is now nothing was told."""
    admitted = site.admit("train", 2, 1)
    site.cohort = "cohort 2"
    assert site.release(admitted).has_error()
    assert not site.ask("train", 2, 1).has_error()


def test_an_answer_that_is_sent_again_holds_what_the_policy_of_now_lets_out(site):
    admitted = site.admit("train", 2)
    answer = site.release(admitted)
    allow(site, metrics=False)
    again = site.gate.reconsider(admitted, answer, site.policy)
    assert math.isnan(again.content[wire.METRICS][wire.LOSS])
    assert site.gate.reconsider(admitted, again, site.policy) is again
    admitted = site.admit("query")
    answer = site.release(admitted)
    assert answer.content[wire.METRICS]["positive:pneumonia"] == 20
    allow(site, min_patients=25)
    again = site.gate.reconsider(admitted, answer, site.policy)
    assert math.isnan(again.content[wire.METRICS]["positive:pneumonia"])


def test_noisy_counts_leave_after_the_last_round_alone_and_the_first_ones_again(tmp_path):
    """Two draws of the noise about the same patients would be better than one."""
    privacy = {"epsilon": 4.0, "delta": 1e-5, "steps": 2, "threshold": True}
    site = Site(tmp_path, small_plan(rounds=2, privacy=privacy))
    with pytest.raises(RefusedError, match="no evaluation after round 1"):
        site.admit("evaluate", 1)
    noisy = dict.fromkeys(wire.evaluate_numbers(site.plan), 7.25)
    admitted = site.admit("evaluate", 2)
    assert site.release(admitted, **{wire.N_EXAMPLES: wire.PRIVATE_WEIGHT, wire.LOSS: 0.5}).has_error()
    answers = [
        site.release(
            admitted,
            only=(wire.N_EXAMPLES, *noisy),
            **{**{name: value + k for name, value in noisy.items()}, wire.N_EXAMPLES: wire.PRIVATE_WEIGHT},
        )
        for k in (0, 1)
    ]
    assert [answer.content[wire.METRICS]["low-positive:pneumonia"] for answer in answers] == [7.25, 7.25]
    with pytest.raises(RefusedError, match="with other weights"):
        site.admit("evaluate", 2, k=1)
    closed = site.admit("evaluate", 2)
    allow(site, metrics=False)
    assert site.release(
        closed, only=(wire.N_EXAMPLES, *noisy), **{**noisy, wire.N_EXAMPLES: wire.PRIVATE_WEIGHT}
    ).has_error()
