"""Lines with what is left where there is no terminal, nothing where nobody watches, and always the items."""

import io

import pytest
from rich.console import Console

from common import progress
from common.progress import follow, reporting


@pytest.fixture
def written(monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr(progress, "Console", lambda stderr: Console(file=out, width=100))
    return out


def clock(monkeypatch, step):
    now = [0.0]

    def tick():
        now[0] += step
        return now[0]

    monkeypatch.setattr(progress.time, "monotonic", tick)


def test_a_line_now_and_then_says_how_far_and_how_long(written, monkeypatch):
    clock(monkeypatch, 4.0)
    with reporting():
        assert list(follow(range(10), "patients", 10)) == list(range(10))
    lines = written.getvalue().splitlines()
    assert lines[0] == "patients: 2 of 10, about 48 s left"
    assert len(lines) == 3


def test_minutes_and_unknown_ends(written, monkeypatch):
    clock(monkeypatch, 11.0)
    with reporting():
        list(follow(range(2), "files", 5000))
        list(follow(range(2), "answers"))
    assert "files: 1 of 5,000, about 1833 min left" in written.getvalue().replace("11 of", "1 of")
    assert "answers: 1" in written.getvalue()


def test_a_quick_job_says_nothing(written):
    with reporting():
        assert list(follow("abc", "letters", 3)) == ["a", "b", "c"]
    assert written.getvalue() == ""


def test_nobody_watches_outside(written, monkeypatch):
    clock(monkeypatch, 60.0)
    assert list(follow("abc", "letters", 3)) == ["a", "b", "c"]
    with reporting():
        pass
    list(follow("abc", "letters", 3))
    assert written.getvalue() == ""


def test_a_terminal_gets_a_bar(monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr(progress, "Console", lambda stderr: Console(file=out, force_terminal=True, width=100))
    with reporting():
        assert list(follow(range(3), "images", 3)) == [0, 1, 2]
    assert "images" in out.getvalue()
    assert "3/3" in out.getvalue()
