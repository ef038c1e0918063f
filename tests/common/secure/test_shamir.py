"""Any threshold shares give the secret, fewer are as good as none, and whoever gives a wrong one is found."""

import itertools
import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.secure.shamir import PRIME, SHARE_BYTES, combine, recover, split

SECRET = st.binary(min_size=32, max_size=32)


def opened(shares):
    return combine(shares).to_bytes(SHARE_BYTES, "big")[1:]


def test_the_modulus_is_a_prime_above_every_secret():
    """Fermat's test to many bases: a composite fails each with probability above one half."""
    assert PRIME > 2**256
    assert all(pow(base, PRIME - 1, PRIME) == 1 for base in range(2, 60))


@given(SECRET, st.integers(1, 6), st.integers(0, 4))
def test_any_threshold_shares_give_the_secret(secret, threshold, more):
    shares = split(secret, threshold, threshold + more)
    for chosen in itertools.combinations(shares, threshold):
        assert opened({x: shares[x] for x in chosen}) == secret


@given(SECRET, SECRET)
def test_fewer_shares_fit_every_secret(secret, other):
    """Two of three: through one share and any secret at 0 there is exactly one line."""
    shares = split(secret, 2, 3)
    third = combine({1: shares[1], 0: b"\0" + other}, at=3)
    assert opened({1: shares[1], 3: third.to_bytes(SHARE_BYTES, "big")}) == other


def test_two_splits_of_one_secret_have_nothing_in_common():
    one, two = (split(b"\1" * 32, 3, 5) for _ in range(2))
    assert not set(one.values()) & set(two.values())


@pytest.mark.parametrize(
    ("secret", "threshold", "n"), [(b"short", 1, 1), (bytes(32), 0, 3), (bytes(32), 4, 3)]
)
def test_what_cannot_be_shared_is_refused(secret, threshold, n):
    with pytest.raises(ValueError, match="threshold"):
        split(secret, threshold, n)


@pytest.mark.parametrize("liars", [{1}, {3}, {1, 2}])
def test_liars_are_found_where_enough_are_honest(liars):
    secret = secrets.token_bytes(32)
    shares = split(secret, 3, 5)
    told = {
        x: secrets.token_bytes(SHARE_BYTES - 1).rjust(SHARE_BYTES, b"\0") if x in liars else s
        for x, s in shares.items()
    }
    found, wrong = recover(told, 3, lambda s: s == secret)
    assert found == secret
    assert wrong in (frozenset(liars), frozenset())  # those that were tried before


@pytest.mark.parametrize(("n", "liars"), [(16, {1}), (24, {1}), (24, {1, 2, 3}), (50, {1, 50})])
def test_the_first_of_many_does_not_hide_the_secret_by_lying(n, liars):
    """The first many combinations, in order, all have the first share."""
    secret, threshold = secrets.token_bytes(32), n // 2 + 1
    shares = split(secret, threshold, n)
    told = {x: bytes(SHARE_BYTES) if x in liars else share for x, share in shares.items()}
    found, wrong = recover(told, threshold, lambda s: s == secret)
    assert (found, wrong) in ((secret, frozenset(liars)), (secret, frozenset()))  # those that were tried


def test_without_enough_honest_ones_there_is_no_secret():
    shares = split(bytes(32), 3, 4)
    told = {**shares, 1: bytes(SHARE_BYTES), 2: bytes(SHARE_BYTES)}
    with pytest.raises(ValueError, match="no 3 of 4 shares"):
        recover(told, 3, lambda s: s == bytes(32))
    with pytest.raises(ValueError, match="no 3 of 2 shares"):
        recover({1: shares[1], 2: shares[2]}, 3, lambda s: True)
