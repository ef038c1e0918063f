import json
from pathlib import Path

import pytest

from common.errors import RunError
from common.results.form import to_tree
from common.results.status import RunRecord, RunState, read_record, write_record

OLDER = Path(__file__).with_name("older")


def test_a_record_from_before_there_were_formats_is_read(tmp_path):
    record = read_record(OLDER)
    assert record == RunRecord(
        run="abc123", min_sites=2, started="2026-11-01T10:00:00+00:00", state="finished"
    )
    write_record(tmp_path, record)
    older = json.loads((OLDER / "run.json").read_text())
    assert json.loads((tmp_path / "run.json").read_text()) == {"format": "pneumofed-run-1", **older}


def test_another_record_is_refused(tmp_path):
    (tmp_path / "run.json").write_text('{"run": "abc", "state": "perhaps"}')
    with pytest.raises(RunError, match=r"run\.json: .*; start another run"):
        read_record(tmp_path)


def test_a_run_that_cannot_be_read_has_no_start():
    assert to_tree(RunState(state="unreadable", problem="p")) == {"state": "unreadable", "problem": "p"}
