"""Temperature scaling (Guo et al., 2017, "On Calibration of Modern Neural Networks"), fitted without moving a
score.

A probability sigmoid(z) becomes sigmoid(z / T), with the T of the smallest cross-entropy on validation
patients. Sites report their mean cross-entropy at fixed temperatures; the pooled one is their mean weighted
by patients, and convex in 1/T. Its minimum is read off a parabola in log T through the lowest point and its
neighbours: one number for all, in one message.
"""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from common.arrays import Reals

TEMPERATURES = tuple(2.0 ** (k / 4) for k in range(-8, 17))
"""0.25 to 16, a quarter of an octave apart."""


def loss_at(temperature: float) -> str:
    """The name of the number: the mean cross-entropy at this temperature."""
    return f"loss-at-{temperature:.3f}"


NUMBERS = tuple(loss_at(t) for t in TEMPERATURES)


def losses(logits: Reals, labels: Reals) -> dict[str, float]:
    """NUMBERS of one site: (N, K) logits and labels (NaN where unknown), the mean over known labels; NaN if
    none is known."""
    known = ~np.isnan(labels)
    if not known.any():
        return dict.fromkeys(NUMBERS, math.nan)
    z, y = logits[known].astype(np.float64), labels[known].astype(np.float64)
    return {loss_at(t): float((np.logaddexp(0.0, z / t) - y * z / t).mean()) for t in TEMPERATURES}


def fit_temperature(pooled: Mapping[str, float]) -> float:
    """The T of the smallest pooled loss; within 1 % of an exact fit inside the grid. NaN if the losses are
    not known."""
    values = np.array([pooled[name] for name in NUMBERS])
    if not np.isfinite(values).all():
        return math.nan
    best = int(values.argmin())
    if best in (0, len(values) - 1):
        return float(TEMPERATURES[best])
    left, middle, right = values[best - 1 : best + 2]
    bend = left - 2.0 * middle + right
    shift = 0.5 * (left - right) / bend if bend > 0.0 else 0.0
    return float(TEMPERATURES[best] * 2.0 ** (shift / 4))


def calibrated(logits: Reals, temperature: float) -> NDArray[np.float64]:
    """sigmoid(z / T); sigmoid(z) if T is not known. From logits, as a float32 probability near 1 has
    forgotten how near."""
    z = logits.astype(np.float64) / (temperature if math.isfinite(temperature) else 1.0)
    result: NDArray[np.float64] = np.exp(-np.logaddexp(0.0, -z))
    return result


def calibrate(probabilities: Reals, temperature: float) -> NDArray[np.float64]:
    """sigmoid(logit(p) / T); as they are if T is not known."""
    p = probabilities.astype(np.float64)
    if not math.isfinite(temperature):
        return p
    with np.errstate(divide="ignore"):
        scaled = (np.log(p) - np.log1p(-p)) / temperature
    result: NDArray[np.float64] = 1.0 / (1.0 + np.exp(-scaled))
    return result
