"""The noise on what a site tells of a private run's last model (common/soft_counts.py)."""

import secrets
from collections.abc import Sequence

import numpy as np

from common import soft_counts
from common.soft_counts import NOISE, Counts


def noisy_counts(exact: Counts, findings: Sequence[str], noise_multiplier: float) -> dict[str, float]:
    """The numbers of an answer: `exact` with noise that only the operating system could repeat, and its
    standard deviation."""
    deviation = noise_multiplier * soft_counts.sensitivity(len(findings))
    noise = np.random.default_rng(secrets.randbits(128)).normal(0.0, deviation, exact.shape)
    return {**soft_counts.to_numbers(exact + noise, findings), NOISE: deviation}
