"""A ledger that somebody at the site made smaller: what was spent must not be forgotten."""

import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.governance.ledger import Ledger, Purpose
from common.errors import DataError

PATIENTS = [f"{i:032x}" for i in range(6)]
STEPS = (1.0, 0.1, 10)


def purpose(number):
    return Purpose("p" * 64, "r1", number)


def tamper(path, statement):
    with sqlite3.connect(path) as raw:
        for (trigger,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            raw.execute(f"DROP TRIGGER {trigger}")
        raw.execute(statement)
    raw.close()


@pytest.mark.parametrize(
    "statement",
    [
        f"DELETE FROM members WHERE patient = '{PATIENTS[3]}'",
        "DELETE FROM members",
        f"UPDATE members SET patient = 'x' WHERE patient = '{PATIENTS[0]}'",
        "INSERT INTO members SELECT cohort, 'y' FROM members LIMIT 1",
        "UPDATE members SET cohort = 'z'",
        "UPDATE entries SET steps = 1",
        "DELETE FROM entries WHERE n = 1",
    ],
)
def test_no_row_can_be_changed_or_removed_before_the_next_step(tmp_path, statement):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    for number in (1, 2):
        ledger.reserve(PATIENTS, purpose(number), STEPS, None)
    tamper(tmp_path / "ledger.sqlite", statement)
    with pytest.raises(DataError, match="was changed"):
        ledger.verify()
    with pytest.raises(DataError, match="was changed"):
        ledger.reserve(PATIENTS, purpose(3), STEPS, None)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sets(st.sampled_from(PATIENTS), min_size=1), min_size=1, max_size=3), st.data())
def test_whoever_is_struck_off_is_missed(tmp_path_factory, cohorts, data):
    path = tmp_path_factory.mktemp("ledger") / "ledger.sqlite"
    ledger = Ledger(path)
    for number, patients in enumerate(cohorts, start=1):
        ledger.reserve([*patients, *patients], purpose(number), STEPS, None)
    assert ledger.verify() == len(cohorts)
    gone = data.draw(st.sampled_from(sorted(set().union(*cohorts))))
    tamper(path, f"DELETE FROM members WHERE patient = '{gone}'")
    with pytest.raises(DataError, match="list of patients was changed"):
        ledger.verify()
