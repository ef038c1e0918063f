"""The queue is what lies on the disk: its order survives whatever happens to the server."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.results.status import RunRecord
from server.runs import Runs
from tests.helpers.denied import deny_listing

RECORD = RunRecord(run="1", min_sites=2, started="2026-11-01T10:00:00+00:00")


@pytest.mark.slow
@given(ahead=st.lists(st.booleans(), max_size=12))
def test_the_order_is_that_of_a_list_to_whose_ends_one_adds(tmp_path_factory, ahead):
    folder, expected = tmp_path_factory.mktemp("runs"), []
    for i, first in enumerate(ahead):
        name = f"run-{i:02d}"
        (folder / name).mkdir()
        Runs(folder).queue(name, RECORD, ahead=first)
        expected.insert(0 if first else len(expected), name)
    assert Runs(folder).queued() == expected
    places = {name: state.place for name, state in Runs(folder).states(None).items()}
    assert places == {name: i for i, name in enumerate(expected, 1)}


def test_what_cannot_be_read_is_said_and_holds_up_nothing(tmp_path):
    runs = Runs(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        runs.queue(name, RECORD, ahead=False)
    (tmp_path / "a" / "run.json").write_text("{")
    (tmp_path / "c").mkdir()
    assert runs.queued() == ["b"]
    states = {name: state.state for name, state in runs.states(None).items()}
    assert states == {"a": "unreadable", "b": "queued", "c": "unreadable"}


@pytest.mark.parametrize(("going_on", "state"), [("a", "running"), (None, "interrupted")])
def test_a_run_that_nobody_goes_on_with_was_interrupted(tmp_path, going_on, state):
    (tmp_path / "a").mkdir()
    Runs(tmp_path).write("a", RECORD)
    assert Runs(tmp_path).states(going_on)["a"].state == state


def test_a_folder_that_cannot_be_listed_is_not_one_without_runs(tmp_path, monkeypatch):
    assert Runs(tmp_path / "absent").names() == []
    deny_listing(monkeypatch, tmp_path)
    with pytest.raises(PermissionError):
        Runs(tmp_path).names()
