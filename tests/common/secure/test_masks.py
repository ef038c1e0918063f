"""Masks are ChaCha20's key stream, cancel to the last bit, and wrap."""

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

from common.secure.masks import add_mask, subtract_mask

KEY = bytes(range(32))


@pytest.mark.parametrize("n", [0, 1, 2**15 - 1, 2**15, 2**15 + 3, 100_000])
def test_a_mask_is_the_cipher_s_key_stream_however_long(n):
    vector = np.zeros(n, np.uint64)
    add_mask(vector, KEY, 64)
    stream = Cipher(ChaCha20(KEY, bytes(16)), mode=None).encryptor().update(bytes(8 * n))
    assert vector.tobytes() == np.frombuffer(stream, "<u8").tobytes()


def test_masks_cancel_whatever_is_under_them():
    rng = np.random.default_rng(0)
    vector = rng.integers(0, 2**64, 1000, np.uint64)
    masked = vector.copy()
    add_mask(masked, KEY, 64)
    assert not np.any(masked == vector)
    add_mask(masked, bytes(32), 64)
    subtract_mask(masked, KEY, 64)
    subtract_mask(masked, bytes(32), 64)
    np.testing.assert_array_equal(masked, vector)


@pytest.mark.parametrize(("bits", "size"), [(4, 1), (8, 1), (9, 2), (16, 2), (32, 4), (33, 8)])
def test_a_mask_of_few_bits_takes_few_bytes_of_the_stream(bits, size):
    vector = np.zeros(2**15 + 3, np.uint64)
    add_mask(vector, KEY, bits)
    stream = Cipher(ChaCha20(KEY, bytes(16)), mode=None).encryptor().update(bytes(size * len(vector)))
    np.testing.assert_array_equal(vector, np.frombuffer(stream, f"<u{size}"))
    subtract_mask(vector, KEY, bits)
    assert not vector.any()
