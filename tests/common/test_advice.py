"""Advice follows the interval; what would settle it follows from its width."""

import math

import pytest

from common.advice import advice, what_would_settle
from common.results.run import Gain


def test_advice_follows_the_interval():
    assert advice([0.01, 0.2]) == "adopt"
    assert advice([-0.2, -0.01]) == "do not adopt: keep the local model"
    assert advice([-0.1, 0.1]) == "no sure difference"
    assert advice([float("nan"), 0.1]) == "not measurable"
    assert advice([0.5, 0.5]) == "not measurable"  # of six patients, every resample says the same
    assert advice([0.0, 0.0]) == "no sure difference"  # the same model twice


@pytest.mark.parametrize(
    ("value", "ci", "n", "said"),
    [
        (
            0.05,
            (-0.05, 0.15),
            30,
            "about 90 more test patients",
        ),  # twice as wide as needed: four times as many
        (-0.05, (-0.15, 0.05), 30, "about 90 more test patients"),
        (0.1, (-0.001, 0.201), 40, "about 1 more test patients"),
        (0.02, (-0.2, 0.24), 100, "about 12000 more test patients"),
        (0.004, (-0.02, 0.03), 100, "a difference below 0.01"),
        (0.05, (0.01, 0.09), 30, ""),
        (math.nan, (math.nan, math.nan), 30, ""),
    ],
)
def test_what_would_settle_a_difference_follows_from_the_interval_s_width(value, ci, n, said):
    gain = Gain(value=value, ci=ci, p=0.5, advice=advice(ci))
    told = what_would_settle(gain, n)
    assert told.startswith(said)
    assert bool(told) == bool(said)


def test_as_many_patients_as_were_said_do_settle_it():
    """Fewer would not, by the interval of a mean; a few more would."""
    size, spread, n = 0.05, 0.2, 30
    half = 1.96 * spread / math.sqrt(n)
    gain = Gain(value=size, ci=(size - half, size + half), p=0.5, advice=advice((size - half, size + half)))
    more = int(what_would_settle(gain, n).split()[1])
    for factor, low in ((0.6, False), (1.4, True)):
        total = n + int(factor * more)
        assert (size - 1.96 * spread / math.sqrt(total) > 0) is low
