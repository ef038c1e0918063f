"""What a hospital is told of its gain: whether to adopt the model, and what would settle it."""

import math

from common.results.form import Interval
from common.results.run import Gain


def advice(interval: Interval) -> str:
    """What a hospital should do, from the interval of its gain: ADOPT, KEEP_LOCAL, UNSURE, or UNKNOWN."""
    low, high = interval
    if not (math.isfinite(low) and math.isfinite(high)) or low == high != 0.0:
        return UNKNOWN  # of so few patients that every resample says the same
    return ADOPT if low > 0 else KEEP_LOCAL if high < 0 else UNSURE


SMALL = 0.01
"""Of an AUROC: what nobody would adopt a model for."""


def what_would_settle(gain: Gain, n_patients: int) -> str:
    """What an unsure hospital is told of its `n_patients` test patients; empty where the gain is sure, or
    cannot be measured.

    The interval's half width falls with the square root of the number of patients; for a difference that
    stays as it is, n (half width / difference)^2 of them leave zero out.
    """
    if gain.advice != UNSURE:
        return ""
    if abs(gain.value) < SMALL:
        return f"a difference below {SMALL:g}: more patients would hardly settle it"
    half = (gain.ci[1] - gain.ci[0]) / 2
    needed = math.ceil(n_patients * (half / abs(gain.value)) ** 2)
    return (
        f"about {max(1, _two_digits(needed - n_patients))} more test patients would settle one of this size"
    )


def _two_digits(n: int) -> int:
    digits = max(0, len(str(abs(n))) - 2)
    return round(n, -digits)


ADVICE = ADOPT, KEEP_LOCAL, UNSURE, UNKNOWN = (
    "adopt",
    "do not adopt: keep the local model",
    "no sure difference",
    "not measurable",
)
