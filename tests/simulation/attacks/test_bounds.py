"""The lower bound of ε against its own definition, and against training whose ε is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from simulation.attacks.bounds import LARGEST, epsilon_lower_bound, p_value


def test_without_delta_the_chance_is_that_of_coins_with_odds_e_to_epsilon():
    assert p_value(100, 60, 50, 1.0, 0.0) == pytest.approx(float(binom.sf(49, 60, np.e / (1 + np.e))))


def test_by_hand():
    # Three guesses, all right: q^3 + 2 m δ max(P[2], (P[2] + P[1]) / 2, (P[2] + P[1] + P[0]) / 3), q = 1/2 at
    # ε = 0.
    assert p_value(10, 3, 3, 0.0, 1e-2) == pytest.approx(0.125 + 2 * 10 * 1e-2 * max(3 / 8, 6 / 16, 7 / 24))


@given(st.integers(1, 60), st.data())
@settings(max_examples=60, deadline=None)
def test_the_bound_is_where_the_chance_is_five_percent(guesses, data):
    right = data.draw(st.integers(0, guesses))
    bound = epsilon_lower_bound(2 * guesses, guesses, right, 1e-5)
    if bound == 0.0:
        assert p_value(2 * guesses, guesses, right, 0.0, 1e-5) >= 0.05
    else:
        assert bound == LARGEST or p_value(2 * guesses, guesses, right, bound, 1e-5) == pytest.approx(
            0.05, abs=1e-6
        )


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 2.0])
def test_randomised_response_of_known_epsilon_is_overestimated_in_one_run_of_twenty_at_most(epsilon):
    rng = np.random.default_rng(1)
    right = rng.binomial(200, np.exp(epsilon) / (1 + np.exp(epsilon)), 2000)
    bounds = {r: epsilon_lower_bound(200, 200, int(r), 0.0) for r in set(right.tolist())}
    found = np.array([bounds[r] for r in right.tolist()])
    assert (found > epsilon).mean() <= 0.06
    if epsilon:
        assert np.median(found) > 0.4 * epsilon


@pytest.mark.parametrize(("canaries", "guesses", "right"), [(10, 20, 5), (10, 5, 6), (10, 5, -1)])
def test_impossible_counts_are_refused(canaries, guesses, right):
    with pytest.raises(ValueError, match="right of"):
        epsilon_lower_bound(canaries, guesses, right, 0.0)
