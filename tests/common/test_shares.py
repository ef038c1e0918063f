"""No site has more than its share of the weight."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.shares import STEP, largest_weight


def test_caps_by_hand():
    assert largest_weight([10, 20, 30], 0.5) == math.inf  # 30 of 60 is half
    assert largest_weight([10, 20, 90], 0.5) == 30
    assert largest_weight([2**24, 20, 20, 20, 20], 0.5) == 80
    assert largest_weight([100, 100, 1, 1], 0.3) == pytest.approx(1.5, abs=STEP)  # 0.3 * (c + c + 2) = c
    assert largest_weight([100, 50, 1], 0.2) == 1  # three cannot have a fifth each: all alike
    assert largest_weight([10, 1000], 0.5) == math.inf
    assert largest_weight([10, 10, 1000], 1.0) == math.inf
    assert largest_weight([math.nan, 10, 10, 50], 0.5) == 20


@given(st.lists(st.integers(1, 10**6), min_size=3, max_size=12), st.floats(0.05, 1.0))
def test_nobody_has_more_than_the_share_and_nobody_is_cut_for_nothing(weights, share):
    cap = largest_weight(weights, share)
    counted = np.minimum(weights, cap)
    if share * len(weights) >= 1:
        assert counted.max() <= share * counted.sum() * (1 + 1e-9)
        assert cap == math.inf or counted.max() == pytest.approx(share * counted.sum(), abs=STEP)
    else:
        assert len(set(counted)) == 1
    if max(weights) <= share * sum(weights):
        assert cap == math.inf


@given(
    st.lists(st.integers(1, 2**20), min_size=3, max_size=12),
    st.floats(0.05, 1.0),
    st.randoms(use_true_random=False),
)
def test_the_weights_have_one_sum_in_whatever_order_they_come(weights, share, draw):
    cap = largest_weight(weights, share)
    counted = [min(weight, cap) for weight in weights]
    total = sum(counted)
    draw.shuffle(counted)
    assert sum(counted) == total
