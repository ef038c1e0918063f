"""What the ring sums is what the plain mean sums, to the last bit, up to its bounds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.aggregate import WEIGHT_BITS, WeightedMean
from common.errors import WireError
from common.secure.ring import from_ring, length, read_ring, ring_bytes, to_ring, write_ring

SHAPES = {"b": (2, 3), "a": (4,)}


def update(seed, scale=1.0):
    rng = np.random.default_rng(seed)
    return {name: (rng.normal(size=shape) * scale).astype(np.float32) for name, shape in SHAPES.items()}


@given(st.lists(st.tuples(st.integers(0, 99), st.floats(0.5, 1000)), min_size=1, max_size=6))
def test_a_sum_of_rings_is_the_sum_of_the_plain_mean(sites):
    plain, ring = WeightedMean(SHAPES, 100.0), np.zeros(length(SHAPES), np.uint64)
    for seed, weight in sites:
        plain.add(update(seed), weight)
        ring += to_ring(update(seed), weight, 100.0)
    masked = WeightedMean(SHAPES, 100.0)
    masked.add_sum(from_ring(ring, SHAPES), plain.weight)
    start = update(7)
    for name, expected in plain.updated(start).items():
        np.testing.assert_array_equal(masked.updated(start)[name], expected)


@pytest.mark.parametrize("max_norm", [1e-3, 1.0, 100.0, 1e6])
@pytest.mark.parametrize("sign", [1, -1])
def test_at_the_bounds_nothing_wraps(max_norm, sign):
    """Two updates at the largest norm, with all the weight that there may be between them."""
    largest = {name: np.full(shape, sign * max_norm, np.float32) for name, shape in SHAPES.items()}
    half = 2.0 ** (WEIGHT_BITS - 1)
    total = from_ring(to_ring(largest, half, max_norm) + to_ring(largest, half, max_norm), SHAPES)
    for sums in total.values():
        assert np.all(np.sign(sums) == sign)
    mean = WeightedMean(SHAPES, max_norm)
    mean.add_sum(total, 2 * half)
    zeros = {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}
    for found in mean.updated(zeros).values():
        np.testing.assert_allclose(found, sign * max_norm, rtol=1e-6)


def test_more_weight_than_the_ring_holds_is_refused():
    mean = WeightedMean(SHAPES, 1.0)
    with pytest.raises(WireError, match="exceed"):
        mean.add_sum(from_ring(to_ring(update(0), 1.0, 1.0), SHAPES), 2.0**WEIGHT_BITS + 1)


@pytest.mark.parametrize("n_bytes", [0, 79, 81, 88])
def test_another_length_is_refused(n_bytes):
    assert length(SHAPES) == 10
    with pytest.raises(WireError, match=f"found {n_bytes} bytes of a masked update, expected 80"):
        read_ring(bytes(n_bytes), 10)


@given(st.integers(2, 64), st.sampled_from([0, 1, 7, 8, 9, 1000]))
def test_the_lowest_bits_cross_densely_and_come_back_with_their_sign(bits, n):
    rng = np.random.default_rng(n)
    signed = rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1, n, np.int64, endpoint=True)
    data = write_ring(signed.view(np.uint64), bits)
    assert len(data) == ring_bytes(n, bits) == (n * bits + 7) // 8
    back = read_ring(data, n, bits)
    np.testing.assert_array_equal(from_ring(back, {"w": (n,)}, bits)["w"], signed)
    expected = "".join(f"{int(x) % 2**bits:0{bits}b}"[::-1] for x in signed)
    found = "".join(f"{byte:08b}"[::-1] for byte in data)
    assert found[: n * bits] == expected
    assert set(found[n * bits :]) <= {"0"}


@pytest.mark.parametrize("bits", [5, 8, 12])
def test_more_than_a_block_crosses_as_a_whole(bits):
    n = 2**15 + 5
    vector = np.random.default_rng(0).integers(0, 2**bits, n, np.uint64)
    np.testing.assert_array_equal(read_ring(write_ring(vector, bits), n, bits), vector)
