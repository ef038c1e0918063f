"""How often scores like this one were right: what one patient's probability rests on."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from common.results.run import Bin

BINS = 10
"""Equal ones of probability, as in a run's calibration (common/scores.py)."""
Z = 1.959964


@dataclass(frozen=True)
class Like:
    """Test sequences whose scores fall where a patient's does."""

    n: int
    found: int  # of them had the finding
    low: float
    high: float
    """95 % interval of their share (Wilson, 1927)."""

    def __str__(self) -> str:
        return (
            f"of {self.n} test sequences with a like score {self.found} had it "
            f"({100 * self.low:.0f} to {100 * self.high:.0f} %)"
        )


def like(bins: Sequence[Bin], probability: float) -> Like | None:
    """Those of a run's calibration, for a probability before any temperature; None if there are none."""
    place = _place(probability)
    same = next((one for one in bins if _place(one.predicted) == place), None)
    if same is None:
        return None
    n, share = same.n, same.observed
    middle, spread = share + Z**2 / (2 * n), Z * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    low, high = ((middle - spread) / (1 + Z**2 / n), (middle + spread) / (1 + Z**2 / n))
    return Like(n, round(share * n), max(0.0, low), min(1.0, high))


def _place(probability: float) -> int:
    return min(int(probability * BINS), BINS - 1)
