"""A decision holds at the moment of release: whatever is decided while a request is worked on."""

import pytest

from client.governance.policy import Hours

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
