"""Kind 7: clocks that are wrong by seconds are named, not taken for a missing admission."""

import email.utils
import time

import httpx
import pytest

from client.check import _check_clock


def answer(skew):
    """What a server says whose clock is `skew` seconds behind ours."""
    return httpx.Response(401, headers={"date": email.utils.formatdate(time.time() - skew, usegmt=True)})


@pytest.mark.parametrize(
    ("skew", "outcome"),
    [(0, "ok"), (4, "note"), (8, "fails"), (3600, "fails"), (-4, "note"), (-200, "fails")],
)
def test_the_check_says_how_far_the_clock_is_off(skew, outcome):
    (finding,) = _check_clock(answer(skew))
    assert finding.outcome == outcome, finding.text
    if outcome != "ok":
        assert ("ahead of" if skew > 0 else "behind") in finding.text
        assert "NTP" in finding.text


def test_a_server_that_does_not_tell_its_time_is_noted():
    for headers in ({}, {"date": "soon"}):
        (finding,) = _check_clock(httpx.Response(401, headers=headers))
        assert finding.outcome == "note"
