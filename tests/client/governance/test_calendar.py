"""The record of runs on the disk, and what an older version wrote of it, the audit log and the ledger."""

import shutil
import sqlite3
from pathlib import Path

import pytest

from client.governance.calendar import Calendar
from client.governance.ledger import Ledger, Purpose
from common.audit import AuditLog, read_entries, verify
from common.errors import RefusedError

OLDER = Path(__file__).parent / "older"


def test_an_older_record_of_runs_is_read_and_goes_on(tmp_path):
    shutil.copy(OLDER / "runs.json", tmp_path)
    calendar = Calendar(tmp_path)
    assert calendar.runs()["r1"].round == 2
    calendar.train("r1", 2, "aa")  # a server that came back
    with pytest.raises(RefusedError, match="round 2 was trained already"):
        calendar.train("r1", 2, "bb")
    calendar.train("r1", 3, "cc")
    assert Calendar(tmp_path).runs()["r1"].request == "cc"


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"r1": 3}', '{"r1": {"age": 71}}'])
def test_a_damaged_record_of_runs_refuses_instead_of_starting_anew(tmp_path, damage):
    (tmp_path / "runs.json").write_text(damage)
    with pytest.raises(RefusedError, match="cannot be read"):
        Calendar(tmp_path).runs()


def test_an_older_audit_log_is_read_verified_and_written_on(tmp_path):
    shutil.copy(OLDER / "audit.log", tmp_path)
    log = tmp_path / "audit.log"
    assert [entry.event for entry in read_entries(log)] == ["received", "sent"]
    AuditLog(log).add("refused", reason="no")
    assert verify(log)[0] == 3


def test_an_older_ledger_is_read_verified_and_written_on(tmp_path):
    with sqlite3.connect(tmp_path / "ledger.sqlite") as raw:
        raw.executescript((OLDER / "ledger.sql").read_text())
    ledger = Ledger(tmp_path / "ledger.sqlite")
    assert ledger.verify() == 2
    assert ledger.history() == [(1.0, 0.5, 3)]
    ledger.reserve(["a" * 32], Purpose("p" * 64, "r1", 2), (1.0, 0.5, 4), None)
    assert ledger.verify() == 3


def test_at_the_end_the_weights_of_any_evaluated_round_can_be_judged_where_the_plan_chooses(tmp_path):
    calendar = Calendar(tmp_path)
    for run, keep in (("r1", True), ("r2", False)):
        calendar.begin(run)
        for number, weights in ((1, "aa"), (2, "bb"), (3, "cc")):
            calendar.train(run, number, f"from {weights}" if number == 1 else ("aa", "bb")[number - 2])
            calendar.evaluate(run, number, weights, keep=keep)
    for number, weights in ((2, "xx"), (2, "cc"), (1, "bb"), (3, "bb")):
        with pytest.raises(RefusedError, match="other weights than this site was shown"):
            calendar.finish("r1", number, weights)
    calendar.finish("r1", 2, "bb")
    with pytest.raises(RefusedError, match="other weights"):  # once for ever
        calendar.finish("r1", 3, "cc")
    calendar.finish("r1", 2, "bb")
    assert Calendar(tmp_path).runs()["r2"].seen == {}
    calendar.finish("r2", 3, "cc")
