"""Integers of few bits on one scale: no sum of them wraps, and on average, and over the rounds, nothing is lost."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import WireError
from common.secure.levels import (
    ABOVE,
    FEW,
    GROWS,
    LEAST,
    SHRINKS,
    WIDE,
    Levels,
    bounded,
    n_integers,
    narrow_bits,
    widths,
)
from common.secure.masks import add_mask, subtract_mask
from tests.helpers.plans import small_plan

SHAPES = {"b": (4, 5), "a": (50,)}
N = 72
"""Numbers, and bounds."""
BOUNDS = {"a": 0.5, "b": 0.01}
weights = st.lists(st.floats(0.1, 2.0**24), min_size=2, max_size=60)


def plan_of(codec="int8", n_sites=3, **changes):
    return small_plan(
        codec={"name": codec}, aggregation={"secure": True, "threshold": n_sites // 2 + 1}, **changes
    )


def shares_of(some):
    whole = sum(map(Fraction, some))
    return [Fraction(weight) / whole for weight in some]


def drawn(seed, factor=1.0):
    rng = np.random.default_rng(seed)
    return {
        name: rng.uniform(-factor, factor, shape).astype(np.float32) * np.float32(BOUNDS[name])
        for name, shape in SHAPES.items()
    }


@settings(max_examples=60)
@given(weights, st.sampled_from(["int8", "int4"]), st.sampled_from([1, -1]), st.booleans())
def test_at_the_bounds_no_sum_wraps(some, codec, sign, is_first):
    """All sites send, in each number, more than the bound, in one direction."""
    levels = Levels.of(plan_of(codec, len(some)), SHAPES, len(some), None if is_first else BOUNDS)
    beyond = {name: np.full(shape, sign * 1e6, np.float32) for name, shape in SHAPES.items()}
    total, exact = np.zeros(N, np.uint64), 0
    for seed, share in enumerate(shares_of(some)):
        integers, _ = levels.encode(beyond, share, np.random.default_rng(seed))
        total += integers
        exact = exact + integers.view(np.int64).astype(object)
    assert max(abs(exact)) <= 2 ** (levels.bits - 1) - 1
    mean = np.concatenate([value.reshape(-1) for _, value in sorted(levels.decode(total, 1.0).items())])
    steps = np.concatenate(
        [np.full(np.prod(SHAPES[n]), levels.bounds[n] / levels.room) for n in sorted(SHAPES)]
    )
    np.testing.assert_allclose(mean, exact[:-2].astype(float) * steps, rtol=1e-6)
    assert list(exact[-2:]) == [len(some)] * 2


@settings(max_examples=30)
@given(st.lists(st.floats(0.1, 1e4), min_size=2, max_size=20), st.sampled_from(["int8", "int4"]), st.data())
def test_masks_change_no_bit_of_a_sum(some, codec, data):
    """Of those that stay: the masked sum less its masks, to its lowest bits, is the plain sum of the integers."""
    levels = Levels.of(plan_of(codec, len(some)), SHAPES, len(some), BOUNDS)
    stay = data.draw(st.lists(st.sampled_from(range(len(some))), min_size=1, unique=True))
    shares = shares_of(some)
    plain, masked = np.zeros(N, np.uint64), np.zeros(N, np.uint64)
    for site in stay:
        integers, _ = levels.encode(drawn(site), shares[site], np.random.default_rng(site))
        plain += integers
        add_mask(integers, bytes([site]) * 32, levels.bits)
        masked += integers & np.uint64(2**levels.bits - 1)
    for site in stay:
        subtract_mask(masked, bytes([site]) * 32, levels.bits)
    share = float(sum(shares[site] for site in stay))
    for name, expected in levels.decode(plain, share).items():
        np.testing.assert_array_equal(levels.decode(masked, share)[name], expected)


def test_the_mean_is_right_on_average_and_off_by_less_than_the_slack():
    levels, shares = Levels.of(plan_of("int4"), SHAPES, 3, BOUNDS), shares_of([10, 20, 70])
    updates = [drawn(seed) for seed in range(3)]
    expected = sum(float(share) * update["a"] for share, update in zip(shares, updates, strict=True))
    means = []
    for repeat in range(400):
        rng = np.random.default_rng(repeat)
        sent = [levels.encode(update, share, rng) for share, update in zip(shares, updates, strict=True)]
        means.append(levels.decode(sum(integers for integers, _ in sent), 1.0)["a"])
        told = sum(float(share) * one["a"] for share, (_, one) in zip(shares, sent, strict=True))
        np.testing.assert_allclose(means[-1], told, atol=1e-6)  # what a site owes is counted from this
        assert np.linalg.norm(means[-1] - expected) < levels.slack(1.0)
    step = BOUNDS["a"] / levels.room
    np.testing.assert_allclose(np.mean(means, axis=0), expected, atol=6 * step * np.sqrt(3) / 2 / 20)


def test_zeros_stay_zeros():
    levels = Levels.of(plan_of(), SHAPES, 3, BOUNDS)
    zeros = {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}
    integers, told = levels.encode(zeros, Fraction(1, 3), np.random.default_rng(0))
    assert not integers.any()
    assert not any(value.any() for value in told.values())


@pytest.mark.parametrize(
    ("codec", "threshold", "bits"),
    [("int8", 2, 8), ("int8", 45, 8), ("int8", 46, 9), ("int4", 2, 5), ("int4", 6, 6), ("int4", 26, 8)],
)
def test_the_plan_says_how_many_bits_there_are(codec, threshold, bits):
    plan = small_plan(codec={"name": codec}, aggregation={"secure": True, "threshold": threshold})
    assert narrow_bits(plan) == bits
    assert widths(plan) == (WIDE, bits)
    n = 2 * threshold - 1
    assert Levels.of(plan, SHAPES, n, BOUNDS).room >= 4 * n**0.5


def test_without_a_codec_there_is_no_scale():
    plan = small_plan(aggregation={"secure": True, "threshold": 2})
    assert widths(plan) == (64,)
    assert Levels.of(plan, SHAPES, 3, None) is None
    with pytest.raises(WireError, match="without a codec"):
        Levels.of(plan, SHAPES, 3, BOUNDS)


def test_bounds_of_other_tensors_are_refused():
    with pytest.raises(WireError, match="other tensors than the model's"):
        Levels.of(plan_of(), SHAPES, 3, {"a": 1.0})


def test_of_the_first_mean_come_the_first_bounds():
    levels, total = Levels.of(plan_of(), SHAPES, 3, None), np.zeros(N, np.uint64)
    assert levels.bounds == dict.fromkeys(SHAPES, 100.0)
    mean = {"a": np.array([0.5, -1.0], np.float32), "b": np.zeros(3, np.float32)}
    assert levels.next_bounds(total, mean, 100.0) == {"a": ABOVE, "b": ABOVE * LEAST}
    assert levels.next_bounds(total, mean, 1.5)["a"] == 1.5
    assert levels.next_bounds(total, {name: value * 0 for name, value in mean.items()}, 100.0) == {}


def test_a_bound_grows_where_any_site_is_beyond_it_and_else_shrinks():
    """Also where the sites cancel each other."""
    levels, total = Levels.of(plan_of(), SHAPES, 3, BOUNDS), np.zeros(N, np.uint64)
    for site, sign in enumerate((1.0, -1.0)):
        update = {"a": np.full(50, 3 * sign, np.float32), "b": np.full((4, 5), 0.01, np.float32)}
        total += levels.encode(update, Fraction(1, 3), np.random.default_rng(site))[0]
    bounds = levels.next_bounds(total, levels.decode(total, 1.0), 100.0)
    assert bounds == {"a": GROWS * BOUNDS["a"], "b": pytest.approx(SHRINKS * BOUNDS["b"])}


def test_a_server_that_names_tiny_bounds_sees_no_signs():
    """Cut off, all integers of a site would be as large as any, and different sites' of different sizes."""
    levels = Levels.of(plan_of(), SHAPES, 3, dict.fromkeys(SHAPES, 1e-12))
    update = {
        name: np.random.default_rng(0).normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()
    }
    integers, _ = levels.encode(update, Fraction(1, 3), np.random.default_rng(1))
    sizes = np.abs(integers.view(np.int64)[:50])
    assert np.mean(sizes >= sizes.max() - 1) < 0.1
    assert len(set(sizes.tolist())) > 15


named = st.dictionaries(st.text("abcdef", min_size=1), st.lists(st.integers(0, 5), max_size=3).map(tuple))


@given(named.filter(bool))
def test_each_tensor_has_one_bound_and_each_bound_some_numbers(shapes):
    groups = bounded(shapes)
    assert [name for group in groups.values() for name in group] == sorted(shapes)
    assert list(groups) == [group[0] for group in groups.values()]
    sizes = [sum(int(np.prod(shapes[name])) for name in group) for group in groups.values()]
    assert len(sizes) == 1 or min(sizes) >= FEW
    large = {name for name, shape in shapes.items() if np.prod(shape) >= FEW}
    assert all(len(large & set(group)) <= 2 for group in groups.values())


def test_a_server_that_names_tiny_bounds_does_not_see_the_sign_of_a_single_number():
    """The head's bias is one: alone in its tensor it would be as large as it may be, and a sum of shares with
    signs says whose sign is which."""
    shapes = {"head.bias": (1,), "head.weight": (1, 40)}
    levels = Levels.of(plan_of(), shapes, 3, dict.fromkeys(bounded(shapes), 1e-12))
    shares, sizes = shares_of([50, 30, 20]), []
    for seed, share in enumerate(shares):
        rng = np.random.default_rng(seed)
        update = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
        integers, _ = levels.encode(update, share, rng)
        sizes.append(abs(int(integers.view(np.int64)[0])) / float(share * levels.room))
    assert max(sizes) < 0.9


def test_the_words_in_a_sum_are_of_so_many_sites():
    levels, total = Levels.of(plan_of(), SHAPES, 3, BOUNDS), np.zeros(N, np.uint64)
    for site, factor in enumerate((0.5, 2.0, 3.0)):
        update = {**drawn(site, 0.9), "a": np.full(50, factor, np.float32)}
        total += levels.encode(update, Fraction(1, 3), np.random.default_rng(site))[0]
    assert levels.n_beyond(total & np.uint64(2**levels.bits - 1)).tolist() == [2 + (BOUNDS["a"] < 0.5), 0]


def test_the_ring_holds_the_numbers_and_a_word_for_each_tensor():
    assert n_integers(plan_of(), SHAPES) == N
    assert n_integers(small_plan(), SHAPES) == 70


def test_what_outgrows_its_bound_is_caught_up_with():
    """A tensor that was zero becomes large; what is too much at first is sent later."""
    plan, shares, bounds = plan_of(), shares_of([1, 1, 1]), {"a": 1.0, "b": ABOVE * LEAST}
    wanted = {"a": np.full(50, 0.3, np.float32), "b": np.full((4, 5), 0.2, np.float32)}
    owed = [{name: np.zeros_like(value) for name, value in wanted.items()} for _ in shares]
    arrived = {name: np.zeros_like(value) for name, value in wanted.items()}
    for number in range(40):
        levels, total = Levels.of(plan, SHAPES, 3, bounds), np.zeros(N, np.uint64)
        for site, share in enumerate(shares):
            whole = {name: value + owed[site][name] for name, value in wanted.items()}
            integers, told = levels.encode(whole, share, np.random.default_rng([number, site]))
            owed[site] = {name: whole[name] - told[name] for name in whole}
            total += integers
        mean = levels.decode(total, 1.0)
        arrived = {name: arrived[name] + mean[name] for name in mean}
        bounds = levels.next_bounds(total, mean, 100.0)
    for name, value in wanted.items():
        np.testing.assert_allclose(arrived[name], 40 * value, rtol=0.05)
