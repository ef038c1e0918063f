"""Studies that wait to be read: which is next, and that none is lost."""

import threading

import pytest

from client.pacs.arrivals import Arrivals
from tests.helpers.clocks import Clock


@pytest.fixture
def clock():
    return Clock(100.0)


@pytest.fixture
def arrivals(tmp_path, clock):
    return Arrivals(tmp_path / "arrived", clock)


def test_a_study_is_ready_when_nothing_was_added_for_a_while(arrivals, clock):
    arrivals.ring("1.2", 2.0)
    clock.now += 1.5
    arrivals.ring("1.2", 2.0)
    clock.now += 1.5
    assert arrivals.take(0.0) is None
    clock.now += 0.5
    assert arrivals.take(0.0) == "1.2"
    assert arrivals.take(0.0) is None


def test_who_was_ready_first_is_first(arrivals, clock):
    for study, wait in (("1.1", 3.0), ("1.2", 1.0), ("1.3", 2.0)):
        arrivals.ring(study, wait)
    clock.now += 5
    assert [arrivals.take(0.0) for _ in range(3)] == ["1.2", "1.3", "1.1"]


def test_what_was_not_done_waits_after_a_restart_and_what_was_done_does_not(tmp_path, arrivals, clock):
    for study in ("1.1", "1.2", "1.3"):
        arrivals.ring(study, 0.0)
    assert arrivals.take(0.0) == "1.1"
    arrivals.done("1.1")
    assert arrivals.take(0.0) == "1.2"  # and then it is killed
    again = Arrivals(tmp_path / "arrived", clock)
    assert len(again) == 2
    assert {again.take(0.0), again.take(0.0)} == {"1.2", "1.3"}
    assert not arrivals.place("1.1").exists()
    assert "1.1" not in str(arrivals.place("1.1"))


def test_what_rings_while_it_is_read_stays(arrivals):
    arrivals.ring("1.1", 0.0)
    arrivals.take(0.0)
    arrivals.ring("1.1", 0.0)
    arrivals.done("1.1")
    assert arrivals.place("1.1").is_dir()
    assert arrivals.take(0.0) == "1.1"


def test_a_ring_wakes_who_waits(tmp_path):
    arrivals, taken = Arrivals(tmp_path / "arrived"), []
    waiting = threading.Thread(target=lambda: taken.append(arrivals.take(30.0)))
    waiting.start()
    arrivals.ring("1.1", 0.0)
    waiting.join(10.0)
    assert taken == ["1.1"]


def test_what_was_not_quite_removed_is_gone_at_the_next_start(tmp_path, arrivals):
    arrivals.ring("1.1", 0.0)
    arrivals.take(0.0)
    left = arrivals.place("1.1") / "images"
    left.mkdir()
    (left / "one.dcm").write_bytes(b"pixels")
    (arrivals.place("1.1") / "study").unlink()  # and then the power goes
    assert len(Arrivals(tmp_path / "arrived")) == 0
    assert list((tmp_path / "arrived").rglob("*")) == []
