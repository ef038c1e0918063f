"""Shamir's secret sharing (1979) of 32 bytes, over the integers modulo a prime just above 2**256.

Any `threshold` shares give the secret; fewer say nothing about it.
"""

import itertools
import math
import random
import secrets
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache

PRIME = 2**256 + 297
SECRET_BYTES, SHARE_BYTES = 32, 33
MOST_TRIES = 5000
"""Combinations of shares that are tried where some of them are wrong."""


def split(secret: bytes, threshold: int, n: int) -> dict[int, bytes]:
    """Shares 1 … n of a secret of SECRET_BYTES."""
    if len(secret) != SECRET_BYTES or not 1 <= threshold <= n:
        raise ValueError(f"found a secret of {len(secret)} bytes, threshold {threshold} of {n}")
    polynomial = [int.from_bytes(secret, "big"), *(secrets.randbelow(PRIME) for _ in range(threshold - 1))]
    return {x: _at(polynomial, x).to_bytes(SHARE_BYTES, "big") for x in range(1, n + 1)}


def combine(shares: Mapping[int, bytes], at: int = 0) -> int:
    """The polynomial through all these shares, at a point; the secret is at 0."""
    points = tuple(sorted(shares))
    terms = zip(points, _lagrange(points, at), strict=True)
    return sum(int.from_bytes(shares[x], "big") * factor for x, factor in terms) % PRIME


@lru_cache(maxsize=256)
def _lagrange(points: tuple[int, ...], at: int) -> tuple[int, ...]:
    """What the value at each point counts for at another. All secrets of a round have the same points."""
    factors = []
    for x in points:
        above, below = 1, 1
        for other in points:
            if other != x:
                above, below = above * (at - other) % PRIME, below * (x - other) % PRIME
        factors.append(above * pow(below, -1, PRIME) % PRIME)
    return tuple(factors)


def recover(
    shares: Mapping[int, bytes], threshold: int, is_right: Callable[[bytes], bool]
) -> tuple[bytes, frozenset[int]]:
    """The secret that `is_right` knows, and whose shares were wrong, as far as that mattered.

    Raises:
        ValueError: too few shares, or no `threshold` of them (of MOST_TRIES combinations) give it.
    """
    for n, chosen in enumerate(_choices(sorted(shares), threshold)):
        some = {x: shares[x] for x in chosen}
        value = combine(some)
        if value >> (8 * SECRET_BYTES) == 0 and is_right(secret := value.to_bytes(SECRET_BYTES, "big")):
            wrong = {x for x in shares if n and combine(some, x).to_bytes(SHARE_BYTES, "big") != shares[x]}
            return secret, frozenset(wrong)
    raise ValueError(f"no {threshold} of {len(shares)} shares give the secret that was committed to")


def _choices(points: list[int], threshold: int) -> Iterator[tuple[int, ...]]:
    """All combinations, if they are few; else some, drawn. In an order of no meaning: by their names the
    first many thousands have the first points in common."""
    rng = random.Random(threshold)  # noqa: S311 - nothing depends on its being unknown
    if len(points) < threshold or math.comb(len(points), threshold) <= MOST_TRIES:
        some = list(itertools.combinations(points, threshold))
        rng.shuffle(some)
        yield from some
        return
    for _ in range(MOST_TRIES):
        yield tuple(sorted(rng.sample(points, threshold)))


def _at(polynomial: list[int], x: int) -> int:
    value = 0
    for coefficient in reversed(polynomial):
        value = (value * x + coefficient) % PRIME
    return value
