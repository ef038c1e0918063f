"""Seeds by name: stable for ever, and apart for every purpose."""

import hashlib

import torch
from hypothesis import given
from hypothesis import strategies as st

from common.seeds import derive_seed, numpy_generator, torch_generator

PARTS = st.lists(st.one_of(st.text(max_size=5), st.integers(0, 99)), max_size=4)


@given(st.integers(0, 2**31), PARTS)
def test_a_seed_is_the_first_63_bits_of_the_parts_sha256(seed, parts):
    text = "\x1f".join(map(str, [seed, *parts]))
    expected = int(hashlib.sha256(text.encode()).hexdigest()[:16], 16) >> 1
    assert derive_seed(seed, *parts) == expected < 2**63


def test_neighbouring_rounds_sites_and_purposes_share_nothing():
    seeds = {
        derive_seed(5, what, site, number)
        for what in ("train", "augment")
        for site in ("a", "b")
        for number in range(50)
    }
    assert len(seeds) == 200


def test_generators_draw_the_same_again_and_another_for_another_name():
    for make, draw in (
        (torch_generator, lambda g: torch.rand(8, generator=g).tolist()),
        (numpy_generator, lambda g: g.random(8).tolist()),
    ):
        assert draw(make(5, "train", 1)) == draw(make(5, "train", 1)) != draw(make(5, "train", 2))
