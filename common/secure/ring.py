"""Updates as integers modulo 2**64, in one vector: tensors in the order of their names.

The integers are those that the plain mean sums (common/aggregate.py). A sum of updates whose entries are at
most `max_norm`, times weights below 2**26 in all, is at most 2**62 units in size: it never wraps, and what
comes out of the masks is the plain sum to the last bit.
"""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from common.aggregate import Rounding, units_of
from common.arrays import blocks
from common.errors import WireError
from common.secure.masks import Ring
from common.wire import Weights

Shapes = Mapping[str, tuple[int, ...]]


def length(shapes: Shapes) -> int:
    """How many integers."""
    return sum(math.prod(shape) for shape in shapes.values())


def to_ring(update: Weights, weight: float, max_norm: float) -> Ring:
    """(length,): an update times its weight. No entry may exceed `max_norm`."""
    rounding, vector, start = Rounding(weight * units_of(max_norm)), np.empty(_size(update), np.int64), 0
    for name in sorted(update):
        numbers = update[name].reshape(-1)
        for block in blocks(len(numbers)):
            end = start + min(block.stop, len(numbers))
            vector[start + block.start : end] = rounding.of(numbers[block])
        start += len(numbers)
    return vector.view(np.uint64)


def from_ring(vector: Ring, shapes: Shapes) -> dict[str, NDArray[np.int64]]:
    """The sums by tensor. They share the vector's memory."""
    integers, start, sums = vector.view(np.int64), 0, {}
    for name in sorted(shapes):
        size = math.prod(shapes[name])
        sums[name] = integers[start : start + size].reshape(shapes[name])
        start += size
    return sums


def read_ring(data: bytes | bytearray, n: int) -> Ring:
    """From the wire, little-endian. Raises WireError for another length."""
    if len(data) != 8 * n:
        raise WireError(f"found {len(data)} bytes of a masked update, expected {8 * n}")
    return np.frombuffer(data, "<u8")


def _size(update: Weights) -> int:
    return sum(value.size for value in update.values())
