"""The noise on what a site tells of a private run's last model."""

import numpy as np
import pytest

from client.training.private.counts import noisy_counts
from common import soft_counts

FINDINGS = ("pneumonia", "effusion")


def test_every_number_has_the_noise_that_it_says_and_no_draw_is_another_s():
    exact = np.full((2, 2, 3), 100.0)
    draws = [noisy_counts(exact, FINDINGS, 3.0) for _ in range(400)]
    (said,) = {numbers[soft_counts.NOISE] for numbers in draws}
    assert said == pytest.approx(3.0 * 2**0.5)
    noise = np.array([soft_counts.from_numbers(numbers, FINDINGS) - exact for numbers in draws]).reshape(
        400, 12
    )
    assert np.abs(noise.mean(0)).max() < 5 * said / 20
    np.testing.assert_allclose(noise.std(0), said, rtol=0.2)
    assert np.abs(np.corrcoef(noise.T) - np.eye(12)).max() < 0.25
