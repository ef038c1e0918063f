"""Kind 7: clocks that are wrong by seconds are named, not taken for a missing admission."""

import email.utils
import time

import httpx
import pytest

from client.check import _check_clock
from client.link import clock_skew, in_time


def answer(skew):
    """What a server says whose clock is `skew` seconds behind ours."""
    return httpx.Response(401, headers={"date": email.utils.formatdate(time.time() - skew, usegmt=True)})


@pytest.mark.parametrize(
    ("skew", "outcome"),
    [(0, "ok"), (4, "note"), (8, "fails"), (3600, "fails"), (-4, "note"), (-200, "note"), (-310, "fails")],
)
def test_the_check_knows_what_the_server_bears(skew, outcome):
    """Flower's tolerance is five seconds ahead and five minutes behind."""
    (finding,) = _check_clock(answer(skew))
    assert finding.outcome == outcome, finding.text
    if outcome != "ok":
        assert ("ahead of" if skew > 0 else "behind") in finding.text
        assert "NTP" in finding.text
    assert in_time(clock_skew(answer(skew))) is (outcome != "fails")


def test_a_server_that_does_not_tell_its_time_is_noted():
    for headers in ({}, {"date": "soon"}):
        (finding,) = _check_clock(httpx.Response(401, headers=headers))
        assert finding.outcome == "note"
