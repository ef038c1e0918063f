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
    add_mask(vector, KEY)
    stream = Cipher(ChaCha20(KEY, bytes(16)), mode=None).encryptor().update(bytes(8 * n))
    assert vector.tobytes() == np.frombuffer(stream, "<u8").tobytes()


def test_masks_cancel_whatever_is_under_them():
    rng = np.random.default_rng(0)
    vector = rng.integers(0, 2**64, 1000, np.uint64)
    masked = vector.copy()
    add_mask(masked, KEY)
    assert not np.any(masked == vector)
    add_mask(masked, bytes(32))
    subtract_mask(masked, KEY)
    subtract_mask(masked, bytes(32))
    np.testing.assert_array_equal(masked, vector)
