import datetime
import json
from types import SimpleNamespace

import pytest

from client.governance.approval import MAX_UNDECIDED, Approvals
from common.errors import ConfigError, RefusedError
from common.plan import Plan
from tests.helpers.denied import deny_listing, deny_reading
from tests.helpers.plans import small_plan


@pytest.fixture
def approvals(tmp_path):
    return Approvals(tmp_path)


def propose(approvals, plan):
    approvals.propose(plan.model_dump(mode="json"), plan.sha256)
    return plan.sha256


def test_nothing_is_approved_by_being_proposed(approvals):
    sha = propose(approvals, small_plan())
    assert approvals.pending() == [sha]
    with pytest.raises(RefusedError, match="awaits approval"):
        approvals.require(sha)
    with pytest.raises(RefusedError, match="never shown"):
        approvals.require("0" * 64)


def test_approve_and_deny_work_at_once_and_survive_a_restart(approvals, tmp_path):
    sha = propose(approvals, small_plan())
    approvals.approve(sha)
    assert Approvals(tmp_path).require(sha) == small_plan()
    assert approvals.pending() == []
    approvals.deny(sha)
    with pytest.raises(RefusedError, match="denied"):
        Approvals(tmp_path).require(sha)


def test_a_plan_changed_after_its_approval_is_refused(approvals):
    sha = propose(approvals, small_plan())
    approvals.approve(sha)
    file = approvals.plan_file(sha)
    file.write_text(file.read_text().replace("rounds: 2", "rounds: 2000"))
    with pytest.raises(RefusedError, match="changed at this site"):
        approvals.require(sha)


def decided(**changes):
    return json.dumps(
        {"approved": True, "by": "x", "at": "x", "runs": 1, "shapes": {}, "until": "", **changes}
    )


@pytest.mark.parametrize(
    "damage",
    ["", "{", "[]", '{"approved": true}', decided(runs="1"), decided(shapes=[]), decided(until=3),
     decided(approved="no"), decided(runs=1.5), decided(shapes={"w": ["a"]}), "[" * 100_000],
)  # fmt: skip
def test_an_unreadable_decision_is_none(approvals, damage):
    sha = propose(approvals, small_plan())
    approvals.approve(sha)
    (approvals.plan_file(sha).parent / "decision.json").write_text(damage)
    with pytest.raises(RefusedError, match="awaits"):
        approvals.require(sha)
    assert "decision.json: is no decision" in approvals.unread(sha)


def test_a_decision_that_another_account_made_for_itself_is_none_and_said(approvals, monkeypatch):
    sha = propose(approvals, small_plan())
    assert approvals.unread(sha) is None
    approvals.approve(sha)
    assert approvals.unread(sha) is None
    deny_reading(monkeypatch, approvals.plan_file(sha).parent / "decision.json")
    assert approvals.pending() == [sha]
    assert "decision.json: cannot be read: Permission denied; run this as" in approvals.unread(sha)


def test_what_is_not_the_plan_it_claims_to_be_is_refused(approvals):
    tree = small_plan().model_dump(mode="json")
    with pytest.raises(RefusedError, match="hash"):
        approvals.propose(tree, small_plan(seed=6).sha256)
    with pytest.raises(RefusedError, match=r"unknown key.*another version"):
        approvals.propose({**tree, "run_this": "rm -rf /"}, small_plan().sha256)
    assert approvals.known() == []


def test_a_server_cannot_fill_the_disk_with_proposals(approvals):
    for seed in range(MAX_UNDECIDED):
        propose(approvals, small_plan(seed=seed))
    with pytest.raises(RefusedError, match="wait for a decision"):
        propose(approvals, small_plan(seed=999))
    propose(approvals, small_plan(seed=0))  # one that is known is no new one


def test_an_approval_is_for_one_run_and_a_second_one_for_another(approvals):
    sha = propose(approvals, small_plan())
    approvals.approve(sha)
    approvals.require_run(sha, "b", begins=False)  # to be asked who is there begins nothing
    approvals.require_run(sha, "a", begins=True)
    approvals.require_run(sha, "a", begins=True)
    with pytest.raises(RefusedError, match=r"approved for 1 run\(s\)"):
        approvals.require_run(sha, "b", begins=True)
    approvals.approve(sha)
    approvals.require_run(sha, "b", begins=True)
    with pytest.raises(RefusedError):
        approvals.require_run(sha, "c", begins=True)


def test_rounds_go_forward_only_but_a_resume_may_ask_the_last_again(approvals, tmp_path):
    sha = propose(approvals, small_plan())
    approvals.approve(sha)
    approvals.require_run(sha, "a", begins=True)
    approvals.calendar(sha).train("a", 1, "w1")
    approvals.calendar(sha).train("a", 3, "w3")  # it missed a round
    again = Approvals(tmp_path)
    again.calendar(sha).train("a", 3, "w3")
    with pytest.raises(RefusedError, match="round 3 was trained already"):
        again.calendar(sha).train("a", 3, "other")
    with pytest.raises(RefusedError, match="round 1 was trained already"):
        again.calendar(sha).train("a", 1, "w1")


def test_the_difference_to_what_was_approved_before_is_shown(approvals):
    first, second = small_plan(), small_plan(rounds=7)
    sha = propose(approvals, first)
    assert approvals.compare(sha) == (None, [])
    approvals.approve(sha)
    assert approvals.compare(propose(approvals, second)) == (sha, ["rounds: 2 -> 7"])


def test_a_plan_is_found_by_the_beginning_of_its_hash(approvals, monkeypatch):
    sha = propose(approvals, small_plan())
    assert approvals.find(sha[:6]) == sha
    with pytest.raises(ConfigError, match=f"no such plan; known are: {sha[:12]}"):
        approvals.find("zzzz")
    monkeypatch.setattr(approvals, "known", lambda: ["abcd1", "abcd2"])
    with pytest.raises(ConfigError, match="abcd: several"):
        approvals.find("abcd")


@pytest.mark.parametrize("start", ["", "a", "abc"])
def test_an_unset_variable_of_a_shell_is_no_plan(approvals, start):
    """`approve "$PLAN"` would be consent to the only one that is known."""
    propose(approvals, small_plan())
    with pytest.raises(ConfigError, match="expected 4 or more digits"):
        approvals.find(start)


def test_what_was_approved_stays_so_in_a_next_version_with_more_keys(tmp_path, monkeypatch):
    class NextPlan(Plan):
        budget: float | None = None
        masks: tuple[int, ...] = (1, 2)

    approvals, plan = Approvals(tmp_path), small_plan()
    approvals.propose(plan.model_dump(mode="json"), plan.sha256)
    approvals.approve(plan.sha256)
    monkeypatch.setattr("client.governance.approval.Plan", NextPlan)
    assert approvals.require(plan.sha256).sha256 == plan.sha256
    assert approvals.approve(plan.sha256).runs == 2
    other = small_plan(seed=9)
    approvals.propose(other.model_dump(mode="json"), other.sha256)
    approvals.approve(other.sha256)
    assert approvals.compare(other.sha256)[1] == ["seed: 5 -> 9"]


def test_a_further_run_of_an_approved_plan_awaits_a_word_and_is_listed(approvals, tmp_path):
    sha = propose(approvals, small_plan())
    approvals.approve(sha)
    approvals.require_run(sha, "a", begins=True)
    assert approvals.pending() == []
    with pytest.raises(RefusedError, match="approve it again"):
        approvals.require_run(sha, "b", begins=False)
    assert Approvals(tmp_path).pending() == [sha]
    assert approvals.awaits_again(sha)
    approvals.approve(sha)
    assert approvals.pending() == []
    approvals.require_run(sha, "b", begins=True)
    assert approvals.pending() == []
    with pytest.raises(RefusedError):
        approvals.require_run(sha, "c", begins=True)
    approvals.deny(sha)
    assert approvals.pending() == []


def test_a_later_approval_takes_no_end_away_and_none_has_ended_already(approvals):
    sha, day = propose(approvals, small_plan()), datetime.date.today() + datetime.timedelta(30)
    approvals.approve(sha, 5, day)
    assert (approvals.approve(sha).runs, approvals.decision(sha).until) == (6, day.isoformat())
    with pytest.raises(ConfigError, match="give a later one"):
        approvals.approve(sha, until=datetime.date.today() - datetime.timedelta(1))
    assert approvals.decision(sha).runs == 6
    approvals.deny(sha)
    assert approvals.approve(sha).until == ""


def test_an_approval_may_be_for_several_runs_and_until_a_day(approvals, monkeypatch):
    sha = propose(approvals, small_plan())
    assert approvals.approve(sha, 3, datetime.date(2027, 1, 31)).runs == 3
    for run in ("a", "b", "c"):
        approvals.require_run(sha, run, begins=True)

    class Day(datetime.date):
        @classmethod
        def today(cls):
            return cls(2027, 2, 1)

    assert approvals.require(sha)
    monkeypatch.setattr(
        "client.governance.approval.datetime", SimpleNamespace(**{**vars(datetime), "date": Day})
    )
    with pytest.raises(RefusedError, match="was approved until 2027-01-31: approve it again"):
        approvals.require(sha)
    assert approvals.approve(sha).runs == 4
    assert approvals.require(sha)


def test_what_an_approval_that_has_ended_still_allowed_is_over(approvals, monkeypatch):
    """Five runs until a day, one was used: whoever allows one more afterwards allows one."""
    sha = propose(approvals, small_plan())
    approvals.approve(sha, 5, datetime.date.today())
    approvals.require_run(sha, "a", begins=True)

    class Later(datetime.date):
        @classmethod
        def today(cls):
            return cls.fromordinal(datetime.date.today().toordinal() + 300)

    monkeypatch.setattr(
        "client.governance.approval.datetime", SimpleNamespace(**{**vars(datetime), "date": Later})
    )
    again = approvals.approve(sha)
    assert (again.runs, again.until) == (2, "")
    approvals.require_run(sha, "b", begins=True)
    with pytest.raises(RefusedError, match="approved for 2 run"):
        approvals.require_run(sha, "c", begins=True)


def test_damage_to_one_plan_s_files_hides_no_other_plan(approvals, tmp_path):
    new, *broken = (propose(approvals, small_plan(seed=n)) for n in range(5))
    for sha in broken:
        approvals.approve(sha)
        approvals.require_run(sha, "a", begins=True)
        with pytest.raises(RefusedError):
            approvals.require_run(sha, "b", begins=True)
    torn, foreign, odd, changed = (tmp_path / sha for sha in broken)
    (torn / "runs.json").write_text("{")
    (foreign / "asked").write_bytes(b"\xff")
    (odd / "decision.json").write_text(decided(runs="1"))
    (changed / "plan.yaml").write_text("rounds: 9")
    assert set(approvals.pending()) == {new, broken[1], broken[2], broken[3]}


def test_a_folder_that_cannot_be_listed_is_not_one_without_plans(approvals, tmp_path, monkeypatch):
    propose(approvals, small_plan())
    deny_listing(monkeypatch, tmp_path)
    with pytest.raises(PermissionError):
        approvals.pending()
