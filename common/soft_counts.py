"""What a site tells of a private run's last model: how many validation patients have a low, middle and high
score, of each class, with noise.

A sequence of the probability p counts as (1 - p)², 2p(1 - p) and p²: low, middle and high, which sum to 1
and have an L2 norm of at most 1 (Bernstein polynomials). From the three sums follow the number of patients
and the first two moments of p, with less noise than if these were told themselves. A patient counts as the
mean of their sequences, in every finding that is known of them: whoever is added or removed moves all counts
together by a vector of an L2 norm of at most sqrt(findings), which is what the noise is scaled to (Dwork et
al., 2006; the Gaussian mechanism).
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from common.arrays import Names, Reals

PARTS = tuple(f"{size}-{sign}" for sign in ("negative", "positive") for size in ("low", "middle", "high"))
NOISE = "noise"
"""Name of the standard deviation of the noise on every count; it hangs on the plan alone."""
DIGITS = 2
"""Counts are told so exactly, which costs no privacy."""
Counts = NDArray[np.float64]
"""(findings, 2 classes, 3 parts): without the finding first; low, middle, high."""


def names(findings: Sequence[str]) -> tuple[str, ...]:
    """Of all numbers of an answer, without NOISE: the order of `Counts`, flat."""
    return tuple(f"{part}:{finding}" for finding in findings for part in PARTS)


def sensitivity(n_findings: int) -> float:
    """By how much, in L2 norm, one patient can move all counts together."""
    return math.sqrt(n_findings)


def parts_of(p: Reals) -> NDArray[np.float64]:
    """(...,) probabilities -> (..., 3)."""
    p = p.astype(np.float64)
    return np.stack([(1.0 - p) ** 2, 2.0 * p * (1.0 - p), p**2], axis=-1)


def count(probabilities: Reals, labels: Reals, patients: Names) -> Counts:
    """The counts without noise: (N, K) probabilities and labels (NaN where unknown), (N,) patients."""
    parts = parts_of(probabilities)
    _, owner = np.unique(patients, return_inverse=True)
    counts = np.zeros((labels.shape[1], 2, 3))
    for k, column in enumerate(labels.T):
        known = ~np.isnan(column)
        of_owner = np.bincount(owner[known], minlength=len(owner) or 1)
        for label in (0, 1):
            chosen = column == label
            counts[k, label] = (parts[chosen, k] / of_owner[owner[chosen], None]).sum(0)
    return counts


def to_numbers(counts: Counts, findings: Sequence[str]) -> dict[str, float]:
    """By `names`, rounded."""
    return {
        name: round(float(value), DIGITS)
        for name, value in zip(names(findings), counts.reshape(-1), strict=True)
    }


def from_numbers(numbers: Mapping[str, float], findings: Sequence[str]) -> Counts:
    """What `to_numbers` told."""
    flat = np.array([numbers[name] for name in names(findings)], np.float64)
    return flat.reshape(len(findings), 2, 3)
