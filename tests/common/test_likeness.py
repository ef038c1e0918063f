"""How often like scores were right, against scipy's interval and by counting."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from common.likeness import like
from common.results.run import Bin
from common.scores import Predictions, reliability


@pytest.mark.parametrize(("found", "n"), [(0, 4), (3, 4), (19, 20), (20, 20), (50, 200)])
def test_the_interval_is_wilson_s(found, n):
    told = like([Bin(predicted=0.95, observed=found / n, n=n)], 0.93)
    expected = binomtest(found, n).proportion_ci(method="wilson")
    assert (told.n, told.found) == (n, found)
    assert (told.low, told.high) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_the_bin_is_that_of_the_run_s_own_calibration():
    rng = np.random.default_rng(0)
    p, y = rng.uniform(0, 1, (300, 1)), rng.integers(0, 2, (300, 1)).astype(np.float32)
    bins = reliability(Predictions(p, y, np.arange(300).astype(str), {}))
    for value in (0.0, 0.05, 0.31, 0.999, 1.0):
        same = np.minimum((p[:, 0] * 10).astype(int), 9) == min(int(value * 10), 9)
        told = like(bins, value)
        assert (told.n, told.found) == (same.sum(), y[same].sum())


def test_where_nobody_had_a_like_score_nothing_is_said():
    assert like([Bin(predicted=0.95, observed=1.0, n=9)], 0.2) is None
    assert like([], 0.2) is None


def test_it_reads_as_a_sentence():
    assert str(like([Bin(predicted=0.95, observed=0.95, n=20)], 0.9)) == (
        "of 20 test sequences with a like score 19 had it (76 to 99 %)"
    )
    assert math.isclose(like([Bin(predicted=0.05, observed=0.0, n=30)], 0.0).low, 0.0)
