"""A decision is shown before it counts."""

import pytest

from client.governance.approval import Approvals
from common.config import load_yaml
from common.errors import RefusedError
from tests.helpers.command import refused
from tests.helpers.plans import small_plan

PLAN = small_plan()


def test_a_plan_that_nobody_proposed_is_not_decided_about(here, asked):
    for command in ("approve", "deny"):
        refused(here("client", command, "feed", "--dir", str(asked.path)), "no such plan")


def test_a_plan_is_shown_decided_about_and_gone_from_what_is_pending(here, asked):
    folder = str(asked.path)
    shown = here("client", "pending", "--dir", folder).stdout
    assert PLAN.sha256 in shown
    assert "No plan was approved before. The whole of it:" in shown
    assert "learning_rate: 0.05" in shown
    said = here("client", "approve", PLAN.sha256[:12], "--dir", folder).stdout
    assert "for 1 run in all" in said
    assert "There is no cohort for it yet" in said
    again = here("client", "approve", PLAN.sha256[:12], "--dir", folder).stdout
    assert "for 2 runs in all" in again
    assert "The same plan as" in again
    assert "No plan was approved before" not in again
    assert "No plan awaits a decision." in here("client", "pending", "--dir", folder).stdout
    assert "is denied" in here("client", "deny", PLAN.sha256[:12], "--dir", folder).stdout
    assert not Approvals(asked.plans).pending()


def test_a_further_run_of_the_only_plan_is_of_the_same_plan_and_says_who_approved_it_when(here, asked):
    approvals = Approvals(asked.plans)
    decision = approvals.approve(PLAN.sha256)
    approvals.require_run(PLAN.sha256, "first", begins=True)
    with pytest.raises(RefusedError, match="approve it again"):
        approvals.require_run(PLAN.sha256, "second", begins=True)
    shown = here("client", "pending", "--dir", str(asked.path)).stdout
    assert f"The same plan as {decision.by} approved on {decision.at[:10]}.\n" in shown
    assert "the coordinator asks for one more" in shown
    assert "No plan was approved before" not in shown


def test_a_plan_that_was_changed_hides_no_other(here, asked):
    other = small_plan(seed=9)
    Approvals(asked.plans).propose(other.model_dump(mode="json"), other.sha256)
    (asked.plans / PLAN.sha256 / "plan.yaml").write_text("name: x\n")
    (asked.plans / other.sha256 / "decision.json").write_text("{")
    shown = here("client", "pending", "--dir", str(asked.path))
    assert shown.returncode == 0
    assert f"client approve {other.sha256[:12]}" in shown.stdout
    assert f"client approve {PLAN.sha256[:12]}" not in shown.stdout
    assert "was changed: its hash is" in shown.stdout
    assert "decision.json: is no decision; decide again" in shown.stdout


def test_a_plan_against_the_site_s_policy_is_not_approved(here, asked):
    text = asked.settings_file.read_text()
    asked.settings_file.write_text(text.split("policy:")[0] + "policy: {max_rounds: 1}\n")
    assert load_yaml(asked.settings_file, type(asked.settings())).policy.max_rounds == 1
    assert "Against this site's policy" in here("client", "pending", "--dir", str(asked.path)).stdout
    refused(
        here("client", "approve", PLAN.sha256[:12], "--dir", str(asked.path)),
        "against this site's policy",
        "change hospital.yaml first",
    )
    assert Approvals(asked.plans).pending() == [PLAN.sha256]
