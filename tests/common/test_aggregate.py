import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.aggregate import WeightedMean, apply_update, clipped
from common.errors import WireError

updates = st.lists(
    st.tuples(st.lists(st.floats(-100, 100, width=32), min_size=3, max_size=3), st.integers(1, 100_000)),
    min_size=1,
    max_size=8,
)


@settings(max_examples=200)
@given(updates, st.randoms())
def test_the_mean_equals_the_formula_and_not_the_order(rows, random):
    def mean(rows):
        total = WeightedMean({"w": (3,)}, max_norm=200.0)
        for values, weight in rows:
            total.add({"w": np.array(values, np.float32)}, weight)
        return total.updated({"w": np.zeros(3, np.float32)})["w"]

    weights = np.array([w for _, w in rows], np.float64)
    expected = weights @ np.array([v for v, _ in rows], np.float32).astype(np.float64) / weights.sum()
    found = mean(rows)
    # Each term is rounded to a unit of 2**-(62 - 26 - 8): half a unit a site, over the total weight.
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=len(rows) * 2.0**-28 / weights.sum())
    random.shuffle(rows)
    assert (mean(rows) == found).all()


def test_the_largest_sum_does_not_overflow():
    total = WeightedMean({"w": (1,)}, max_norm=1e6)
    for _ in range(4):
        total.add({"w": np.array([1e6], np.float32)}, 2**24)
    assert total.updated({"w": np.array([2.0], np.float32)})["w"] == np.float32(1e6 + 2)
    with pytest.raises(WireError, match="weights exceed"):
        total.add({"w": np.array([1.0], np.float32)}, 1)


def test_nothing_has_no_mean():
    with pytest.raises(ZeroDivisionError):
        WeightedMean({"w": (1,)}, 1.0).updated({"w": np.zeros(1, np.float32)})


def test_blocks_change_no_bit(monkeypatch):
    """Of tensors larger than a block, of one number, and of none."""
    rng = np.random.default_rng(0)
    shapes = {"large": (3, 7), "one": (), "none": (0, 4)}
    start, *several = (
        {name: np.asarray(rng.normal(0, 1, shape), np.float32) for name, shape in shapes.items()}
        for _ in range(4)
    )

    def found():
        total = WeightedMean(shapes, 100.0)
        for weight, update in enumerate(several, start=1):
            total.add(update, weight)
        return {**total.updated(start), **{f"{k}!": w for k, w in apply_update(start, several[0]).items()}}

    whole = found()
    monkeypatch.setattr("common.arrays.BLOCK", 4)
    for name, weights in found().items():
        assert weights.shape == whole[name].shape
        assert np.array_equal(weights, whole[name])


def test_an_update_is_added_once_rounded():
    start = {"w": np.array([1.0, 1e-8], np.float32)}
    result = apply_update(start, {"w": np.array([1e-9, 1.0])})
    assert result["w"].dtype == np.float32
    assert result["w"].tolist() == [1.0, np.float32(1.0 + 1e-8)]


def test_an_update_is_clipped_to_the_plan_s_norm_before_nobody_can_see_it():
    large, small = {"a": np.full(4, 100.0, np.float32)}, {"a": np.ones(4, np.float32)}
    assert np.linalg.norm(clipped(large, 10.0)["a"]) == pytest.approx(10.0, rel=1e-6)
    assert clipped(small, 10.0) is small
    with pytest.raises(WireError, match="NaN or infinity"):
        clipped({"a": np.array([np.nan], np.float32)}, 1.0)
