"""What a comparison of two models on the same patients can show, and how many patients would show more."""

import math

from scipy.stats import norm

ALPHA, POWER = 0.05, 0.8


def smallest_shown(error: float) -> float:
    """The true difference that a two-sided test at ALPHA finds with POWER: (z_(1-α/2) + z_POWER) SE.

    Args:
        error: standard error of the paired difference, over patients.
    """
    return float((norm.ppf(1 - ALPHA / 2) + norm.ppf(POWER)) * error)


def patients_needed(error: float, patients: int, difference: float) -> float:
    """How many patients of the same mix would show a true `difference`; NaN without an error.

    The variance of a difference of two AUROCs of the same patients falls as one over their number, also where
    a patient has several images (Obuchowski, 1997), so that n = patients (smallest_shown / difference)²
    (Obuchowski, 1998). It is as sure as the `error` of the `patients` who were seen, and for these models:
    that other training patients make others is not in it.
    """
    if not math.isfinite(error):
        return math.nan
    return math.ceil(patients * (smallest_shown(error) / difference) ** 2)
