"""How many patients a comparison needs, against tests that are drawn."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from simulation.power import patients_needed, smallest_shown


def test_a_difference_that_would_be_shown_is_found_in_four_of_five_tests():
    error, rng = 0.03, np.random.default_rng(0)
    seen = rng.normal(smallest_shown(error), error, 200_000)
    assert (abs(seen) > norm.ppf(0.975) * error).mean() == pytest.approx(0.8, abs=0.005)


def test_so_many_patients_show_the_difference():
    error, patients, difference = 0.05, 100, 0.02
    needed = patients_needed(error, patients, difference)
    assert needed == 4906  # ((1.96 + 0.8416) * 0.05 / 0.02)² * 100, rounded up
    assert smallest_shown(error * math.sqrt(patients / needed)) == pytest.approx(difference, rel=1e-3)
    assert math.isnan(patients_needed(math.nan, 10, 0.02))
