"""Who only reads a ledger is told that it was lost, as is who trains, and makes none."""

import json

import pytest

from client.governance.approval import Approvals
from client.governance.ledger import Budget, Ledger, Purpose
from client.governance.witness import Witness, known_ledger
from common.audit import AuditLog
from common.errors import DataError, RefusedError
from common.plan import Privacy
from tests.helpers.cohorts import make_cohort
from tests.helpers.command import refused
from tests.helpers.local_sites import make_site
from tests.helpers.plans import small_plan

PLAN = small_plan(rounds=3, privacy=Privacy(epsilon=3.0, delta=1e-5, steps=4))


@pytest.fixture
def site(coordinator, tmp_path):
    """One that has spent two rounds, as its audit log knows."""
    site = make_site(tmp_path, "north", coordinator)
    for number in (1, 2):
        reserve(site, number)
    Witness(site.ledger, AuditLog(site.audit)).note()
    return site


def reserve(site, number):
    Ledger(site.ledger).reserve(["p"], Purpose(PLAN.sha256, "r1", number), (1.0, 0.1, 4), None)


def lose(site):
    site.ledger.unlink()


def put_an_older_copy_back(site):
    site.ledger.unlink()
    reserve(site, 1)


def test_a_ledger_that_was_never_written_is_none_and_stays_away(coordinator, tmp_path, here):
    site = make_site(tmp_path, "new", coordinator)
    assert known_ledger(site.ledger, site.audit) is None
    assert "0.000 spent" in here("client", "ledger", "--dir", str(site.path)).stdout
    assert not site.ledger.exists()


def test_a_whole_one_is_read(site, here):
    ledger = known_ledger(site.ledger, site.audit)
    assert ledger is not None
    assert len(ledger.history()) == 2
    assert json.loads(here("client", "ledger", "--dir", str(site.path), "--json").stdout)["entries"] == 2


@pytest.mark.parametrize("fault", [lose, put_an_older_copy_back])
def test_no_command_reads_one_that_has_forgotten(site, here, fault):
    site.settings_file.write_text("server: localhost:443\npolicy: {epsilon: 8.0, min_patients: 4}\n")
    Approvals(site.plans).propose(PLAN.model_dump(mode="json"), PLAN.sha256)
    make_cohort(site.cohort(PLAN), 60)
    fault(site)
    there, at = site.ledger.exists(), ("--dir", str(site.path))
    with pytest.raises(DataError, match="bring the newest copy"):
        known_ledger(site.ledger, site.audit)
    for command in (("ledger",), ("ledger", "--json"), ("approve", PLAN.sha256[:12])):
        done = here("client", *command, *at)
        refused(done, "the audit log has seen 2", "bring the newest copy")
        assert "left" not in done.stdout
    assert Approvals(site.plans).decision(PLAN.sha256) is None
    shown = here("client", "pending", *at)
    assert (shown.returncode, "it cannot be trained here: " in shown.stdout) == (0, True)
    assert site.ledger.exists() == there


def test_a_budget_that_was_lowered_holds_for_everybody_of_the_run(tmp_path):
    """Its training patients too, when its validation patients were the last to pay."""
    ledger = Ledger(tmp_path / "ledger.sqlite")
    for patients, noise in ((["p"], 1.0), (["q"], 9.0)):
        ledger.reserve(patients, Purpose("plan", "r1", 1), (noise, 1.0, 1), None)
    witness = Witness(tmp_path / "ledger.sqlite", AuditLog(tmp_path / "audit.jsonl"))
    witness.require_within(Budget(6.0, 1e-5), "plan", "r1")
    witness.require_within(Budget(2.0, 1e-5), "plan", "r2")
    with pytest.raises(RefusedError, match="does not allow this answer any more"):
        witness.require_within(Budget(2.0, 1e-5), "plan", "r1")
