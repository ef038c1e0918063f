"""What is signed holds for one round of one run; what is sealed opens for one peer."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.credentials import make_key
from common.errors import WireError
from common.secure.keys import (
    Moment,
    commitment_of,
    fingerprint_of,
    identity_of,
    make_keys,
    pair_key,
    public_of,
    require_agreed,
    require_signed,
    rounding_seed,
    seal,
    sign_survivors,
    unseal,
)

NOW = Moment("a" * 64, "run", 3)
KEYS = {name: make_key() for name in ("north", "south")}
MADE = {name: make_keys(key, name, NOW) for name, key in KEYS.items()}
(NORTH, NORTH_SHOWN), (SOUTH, SOUTH_SHOWN) = MADE["north"], MADE["south"]
OTHER_MOMENTS = [replace(NOW, plan="b" * 64), replace(NOW, run="other"), replace(NOW, round=4)]


def test_keys_are_signed_and_match_their_secrets():
    require_signed(NORTH_SHOWN, NOW)
    assert (NORTH_SHOWN.mask, NORTH_SHOWN.seal) == (public_of(NORTH.mask), public_of(NORTH.seal))
    assert NORTH_SHOWN.commitment == commitment_of(NORTH.seed)
    assert NORTH_SHOWN.identity == identity_of(KEYS["north"])
    assert len({NORTH.mask, NORTH.seal, NORTH.seed}) == 3
    assert make_keys(KEYS["north"], "north", NOW)[0] != NORTH


@pytest.mark.parametrize("field", ["site", "identity", "mask", "seal", "commitment", "signature"])
def test_what_is_changed_is_not_signed(field):
    with pytest.raises(WireError, match="is not signed by its key"):
        require_signed(replace(NORTH_SHOWN, **{field: getattr(SOUTH_SHOWN, field)}), NOW)


@given(st.sampled_from(["identity", "signature"]), st.text(max_size=40))
def test_rubbish_is_not_signed(field, text):
    with pytest.raises(WireError, match="is not signed"):
        require_signed(replace(NORTH_SHOWN, **{field: text}), NOW)


@pytest.mark.parametrize("moment", OTHER_MOMENTS)
def test_keys_of_another_round_are_not_signed_for_this(moment):
    with pytest.raises(WireError, match="is not signed"):
        require_signed(NORTH_SHOWN, moment)


def test_rounding_is_of_the_key_the_site_the_plan_and_the_round_and_the_same_in_every_run():
    first = rounding_seed(KEYS["north"], "north", NOW)
    assert first == rounding_seed(KEYS["north"], "north", replace(NOW, run="other"))
    assert 2**200 < first < 2**256
    others = {
        rounding_seed(KEYS["south"], "north", NOW),
        rounding_seed(KEYS["north"], "south", NOW),
        rounding_seed(KEYS["north"], "north", replace(NOW, round=4)),
        rounding_seed(KEYS["north"], "north", replace(NOW, plan="b" * 64)),
    }
    assert len(others | {first}) == 5


def test_two_sites_come_to_one_mask_and_no_third_does():
    one = pair_key(NORTH.mask, SOUTH_SHOWN.mask, NOW, "north", "south")
    assert one == pair_key(SOUTH.mask, NORTH_SHOWN.mask, NOW, "south", "north")
    third = make_keys(make_key(), "east", NOW)[0]
    assert one != pair_key(third.mask, SOUTH_SHOWN.mask, NOW, "north", "south")
    for moment in OTHER_MOMENTS:
        assert one != pair_key(NORTH.mask, SOUTH_SHOWN.mask, moment, "north", "south")


@pytest.mark.parametrize("public", ["00" * 32, "01" + "00" * 31, "zz", "ab"])
def test_a_key_that_is_none_or_gives_nothing_is_refused(public):
    """Points of small order would make the mask everybody's to know."""
    with pytest.raises(WireError, match="a public key of a peer is none"):
        pair_key(NORTH.mask, public, NOW, "north", "south")


def test_what_is_sealed_opens_for_its_receiver_alone():
    sealed = seal(b"share", NORTH, SOUTH_SHOWN.seal, NOW, "north", "south")
    assert unseal(sealed, SOUTH, NORTH_SHOWN.seal, NOW, "north", "south") == b"share"
    third, _ = make_keys(make_key(), "east", NOW)
    for own, sender, receiver, moment in [
        (third, "north", "south", NOW),
        (SOUTH, "east", "south", NOW),
        (SOUTH, "north", "east", NOW),
        *((SOUTH, "north", "south", moment) for moment in OTHER_MOMENTS),
    ]:
        with pytest.raises(WireError, match="is not from it"):
            unseal(sealed, own, NORTH_SHOWN.seal, moment, sender, receiver)


@given(st.integers(0, 20), st.integers(1, 255))
def test_a_changed_seal_does_not_open(where, flip):
    sealed = bytearray(seal(b"share", NORTH, SOUTH_SHOWN.seal, NOW, "north", "south"))
    sealed[where] ^= flip
    with pytest.raises(WireError, match="is not from it"):
        unseal(bytes(sealed), SOUTH, NORTH_SHOWN.seal, NOW, "north", "south")


def test_a_word_for_survivors_is_for_exactly_these():
    seen = ("roster", "model")
    word = sign_survivors(KEYS["north"], NOW, seen, ["north", "south"])
    require_agreed(NORTH_SHOWN, word, NOW, seen, ["north", "south"])
    for moment, shown, survivors in [
        (NOW, seen, ["north"]),
        (NOW, ("other", "model"), ["north", "south"]),
        (NOW, ("roster", "other"), ["north", "south"]),
        *((moment, seen, ["north", "south"]) for moment in OTHER_MOMENTS),
    ]:
        with pytest.raises(WireError, match="is not signed"):
            require_agreed(NORTH_SHOWN, word, moment, shown, survivors)
    with pytest.raises(WireError, match="is not signed"):
        require_agreed(SOUTH_SHOWN, word, NOW, seen, ["north", "south"])


def test_a_fingerprint_is_read_out_in_groups_of_four():
    shown = fingerprint_of(NORTH_SHOWN.identity)
    assert [len(group) for group in shown.split()] == [4] * 8
    assert shown == NORTH_SHOWN.fingerprint != SOUTH_SHOWN.fingerprint
