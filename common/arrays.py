"""Arrays by what they may hold, for signatures; and how large ones are worked through."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Reals = NDArray[np.float32] | NDArray[np.float64]
Pixels = NDArray[np.uint8] | NDArray[np.uint16]
Names = NDArray[np.str_] | NDArray[np.int64]
"""Of patients, for example: to be told apart, not to be computed with."""

BLOCK = 2**15
"""Numbers that are worked on at once: they stay in the processor's cache, and need no memory of a tensor's
size."""


def blocks(n: int) -> "Iterator[slice[int, int, None]]":
    """Of n numbers, a BLOCK at a time."""
    return (slice(start, start + BLOCK) for start in range(0, n, BLOCK))
