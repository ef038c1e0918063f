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
from common.arrays import BLOCK, blocks
from common.errors import WireError
from common.secure.masks import Ring, holding
from common.wire import Weights

Shapes = Mapping[str, tuple[int, ...]]
FULL = 64
"""Bits of an integer where the plan has no codec."""


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


def from_ring(vector: Ring, shapes: Shapes, bits: int = FULL) -> dict[str, NDArray[np.int64]]:
    """The sums by tensor, of integers whose lowest `bits` count."""
    above = np.int64(FULL - bits)
    integers, start, sums = (vector.view(np.int64) << above) >> above, 0, {}
    for name in sorted(shapes):
        size = math.prod(shapes[name])
        sums[name] = integers[start : start + size].reshape(shapes[name])
        start += size
    return sums


def ring_bytes(n: int, bits: int) -> int:
    """Of `n` integers on the wire."""
    return -(-n * bits // 8)


def write_ring(vector: Ring, bits: int) -> bytes:
    """The lowest `bits` of each integer, one after the other, the lowest first."""
    kind = holding(bits)
    if bits == 8 * kind.itemsize:
        return vector.astype(kind).tobytes()
    return b"".join(_dense(vector[block].astype(kind), bits) for block in blocks(len(vector)))


def _dense(integers: NDArray[np.uint64], bits: int) -> bytes:
    """BLOCK integers of any width end with a whole byte."""
    each = np.unpackbits(integers.view(np.uint8).reshape(len(integers), -1), axis=1, bitorder="little")
    return np.packbits(each[:, :bits], bitorder="little").tobytes()


def read_ring(data: bytes | bytearray, n: int, bits: int = FULL) -> Ring:
    """From the wire. Raises WireError for another length."""
    if len(data) != ring_bytes(n, bits):
        raise WireError(f"found {len(data)} bytes of a masked update, expected {ring_bytes(n, bits)}")
    kind = holding(bits)
    if bits == 8 * kind.itemsize:
        return np.frombuffer(data, kind).astype(np.uint64, copy=False)
    vector, size = np.empty(n, np.uint64), ring_bytes(BLOCK, bits)
    for number, block in enumerate(blocks(n)):
        packed = np.frombuffer(data, np.uint8)[number * size : (number + 1) * size]
        vector[block] = _spread(packed, len(vector[block]), bits)
    return vector


def _spread(packed: NDArray[np.uint8], n: int, bits: int) -> NDArray[np.uint64]:
    each = np.zeros((n, 8 * holding(bits).itemsize), np.uint8)
    each[:, :bits] = np.unpackbits(packed, count=n * bits, bitorder="little").reshape(n, bits)
    return np.packbits(each, axis=1, bitorder="little").view(holding(bits)).reshape(-1).astype(np.uint64)


def _size(update: Weights) -> int:
    return sum(value.size for value in update.values())
