import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants import PRVAccountant, RDPAccountant

from client.governance.accounting import RoundCost, epsilon, epsilon_prv, epsilon_rdp, merged, solve_noise
from common.errors import ConfigError, RefusedError
from common.plan import Privacy
from tests.helpers.plans import small_plan


def opacus_rdp(history, delta):
    """Step by step, as Opacus's own optimiser would call it."""
    accountant = RDPAccountant()
    for noise, rate, steps in history:
        for _ in range(steps):
            accountant.step(noise_multiplier=noise, sample_rate=rate)
    return accountant.get_epsilon(delta)


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0.6, 5.0), st.floats(0.001, 0.5), st.integers(1, 30)), min_size=1, max_size=5
    )
)
def test_epsilon_is_opacus_own_on_the_same_history(history):
    assert epsilon_rdp(history, 1e-5) == pytest.approx(opacus_rdp(history, 1e-5), rel=1e-9)


def test_the_smaller_of_two_valid_bounds_counts():
    history = [(1.0, 0.02, 500), (2.0, 0.1, 50)]
    accountant = PRVAccountant()
    accountant.history = list(history)
    assert epsilon_prv(history, 1e-5) == pytest.approx(accountant.get_epsilon(delta=1e-5), abs=1e-9)
    assert epsilon(history, 1e-5) == min(epsilon_rdp(history, 1e-5), epsilon_prv(history, 1e-5))
    assert epsilon([], 1e-5) == 0.0


def test_order_and_grouping_do_not_matter():
    split = [(1.0, 0.1, 3), (2.0, 0.1, 4), (1.0, 0.1, 5), (3.0, 0.1, 0)]
    assert merged(split) == ((1.0, 0.1, 8), (2.0, 0.1, 4))
    assert epsilon_rdp(split, 1e-5) == epsilon_rdp([(2.0, 0.1, 4), (1.0, 0.1, 8)], 1e-5)


def test_more_steps_and_less_noise_cost_more():
    base = epsilon([(1.0, 0.05, 100)], 1e-5)
    assert epsilon([(1.0, 0.05, 200)], 1e-5) > base > epsilon([(1.5, 0.05, 100)], 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("target", [0.5, 3.0, 8.0])
def test_the_solved_noise_costs_the_target_and_not_more(target):
    noise = solve_noise(Privacy(epsilon=target, delta=1e-5), 0.05, 300)
    assert target - 0.1 < epsilon([(noise, 0.05, 300)], 1e-5) <= target + 0.011


def test_an_epsilon_out_of_reach_is_refused(monkeypatch):
    def hopeless(**_):
        raise ValueError("The privacy budget is too low.")

    monkeypatch.setattr("opacus.accountants.utils.get_noise_multiplier", hopeless)
    with pytest.raises(ConfigError, match=r"no noise gives epsilon 0\.01"):
        solve_noise(Privacy(epsilon=0.01, delta=1e-7), 1.0, 100_000)


def test_next_to_nothing_costs_nothing_and_never_less():
    """Both accountants fall below zero there."""
    for bound in (epsilon, epsilon_rdp, epsilon_prv):
        assert bound([(20.0, 0.1, 5)], 0.01) >= 0.0


@pytest.mark.slow
def test_many_different_steps_cost_at_least_what_they_cost():
    rng = np.random.default_rng(0)
    pairs = list(
        zip(rng.uniform(0.8, 3, 12).tolist(), rng.uniform(0.01, 0.3, 12).tolist(), [3] * 12, strict=True)
    )
    exact = epsilon_rdp(pairs, 1e-5)
    assert exact <= epsilon(pairs, 1e-5) <= 1.2 * exact
    alike = [(1.0 + k * 1e-5, 0.01 + k * 1e-7, 5) for k in range(500)]
    assert (
        epsilon([(1.0, 0.01, 2500)], 1e-5)
        <= epsilon(alike, 1e-5)
        <= 1.05 * epsilon([(1.0, 0.01, 2500)], 1e-5)
    )


@pytest.mark.slow
def test_five_hundred_different_steps_are_bounded():
    """They took more memory than a machine has; benchmarks are elsewhere, this ends."""
    rng = np.random.default_rng(1)
    pairs = list(
        zip(rng.uniform(0.6, 3, 500).tolist(), rng.uniform(0.001, 0.3, 500).tolist(), [5] * 500, strict=True)
    )
    assert 36 < epsilon(pairs, 1e-5) < math.inf


def test_a_site_without_training_patients_has_no_cost():
    plan = small_plan(privacy=Privacy(epsilon=3.0, delta=1e-4))
    with pytest.raises(RefusedError, match="no training patients"):
        RoundCost.of(plan, 0)
