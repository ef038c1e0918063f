"""Masks: integers of so many bits from a key, by ChaCha20, added modulo 2**64. Of what is summed the lowest
bits alone count and cross: modulo a power of two of at most 64 it is the same sum."""

from collections.abc import Iterator

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from numpy.typing import NDArray

Ring = NDArray[np.uint64]
"""Integers modulo 2**64: numpy's unsigned integers wrap."""
KEY_BYTES = 32
_BLOCK = 2**15  # numbers that are drawn and added at once: they stay in the processor's cache
_ZEROS = bytes(8 * _BLOCK)
_FIRST = bytes(16)  # ChaCha20's counter and nonce: each key expands once


def holding(bits: int) -> np.dtype[np.uint64]:
    """The smallest of numpy's little-endian unsigned integers that hold so many bits."""
    return np.dtype(next(f"<u{size}" for size in (1, 2, 4, 8) if bits <= 8 * size))


def add_mask(vector: Ring, key: bytes, bits: int) -> None:
    """vector += mask, in place, its lowest `bits` uniform."""
    for block, mask in _blocks(key, len(vector), holding(bits)):
        vector[block] += mask


def subtract_mask(vector: Ring, key: bytes, bits: int) -> None:
    """vector -= mask, in place."""
    for block, mask in _blocks(key, len(vector), holding(bits)):
        vector[block] -= mask


def _blocks(key: bytes, n: int, kind: np.dtype[np.uint64]) -> "Iterator[tuple[slice[int, int, None], Ring]]":
    stream = Cipher(ChaCha20(key, _FIRST), mode=None).encryptor()
    for start in range(0, n, _BLOCK):
        size = min(_BLOCK, n - start)
        drawn = stream.update(_ZEROS[: kind.itemsize * size])
        yield slice(start, start + size), np.frombuffer(drawn, kind)
