"""The link state's clock goes on while the machine's jumps."""

import datetime
import time

from flwr.server.superlink.linkstate import in_memory_linkstate
from flwr.supercore import date

from server import steady


def test_it_goes_as_fast_as_time_and_never_jumps(monkeypatch):
    began = steady.now()
    assert abs((began - datetime.datetime.now(datetime.UTC)).total_seconds()) < 3600

    class Jumped(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return super().now(tz) + datetime.timedelta(hours=5)

    monkeypatch.setattr(datetime, "datetime", Jumped)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 5 * 3600)
    time.sleep(0.05)
    assert 0.05 <= (steady.now() - began).total_seconds() < 60


def test_flowers_link_state_counts_by_it():
    steady.keep_flower_steady()
    assert in_memory_linkstate.now is steady.now
    assert date.now is not steady.now  # elsewhere the time of day is meant
