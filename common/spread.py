"""How probabilities are spread, in cells that hold enough patients; and patients of the same spread.

A cell holds the sequences of one class whose probabilities follow each other, of at least so many patients:
their number, and mean, standard deviation and skew of their logits, rounded. No probability of a patient is
in it (microaggregation: Domingo-Ferrer and Mateo-Sanz, IEEE TKDE 14, 2002). What the AUROC of patients
rebuilt from cells is off by: tests/common/test_spread.py.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from common.arrays import Reals
from common.results.form import Result

LARGEST = 20.0
"""Largest logit that is told apart: probabilities nearer to 0 or 1 than 2e-9 are not."""
MOST = 20_000
"""Sequences of a hospital's test patients; the server's memory is bounded by it."""
MOST_CELLS = 200
"""Of a class; with many patients a cell has more of them."""
MOST_SKEW = 1000.0
ONE_SIDED = 1.5
"""From this skew on, a cell is a crowd and a few that lie far from it."""
Logit = Annotated[float, Field(ge=-LARGEST, le=LARGEST, allow_inf_nan=False)]


@dataclass(frozen=True, kw_only=True)
class Cell(Result):
    """Sequences of one class, of at least the agreed number of patients."""

    n: Annotated[int, Field(ge=1, le=MOST)]
    n_patients: Annotated[int, Field(ge=1, le=MOST)]
    mean: Logit  # of the logits
    spread: Annotated[float, Field(ge=0.0, le=LARGEST, allow_inf_nan=False)]  # their standard deviation
    skew: Annotated[
        float, Field(ge=-MOST_SKEW, le=MOST_SKEW, allow_inf_nan=False)
    ]  # their third standardised moment


@dataclass(frozen=True, kw_only=True)
class Spread(Result):
    """One finding: cells from low to high, of the patients with it and of those without."""

    positive: Annotated[tuple[Cell, ...], Field(max_length=MOST_CELLS)]
    negative: Annotated[tuple[Cell, ...], Field(max_length=MOST_CELLS)]

    @classmethod
    def of(
        cls, probabilities: Reals, labels: Reals, patients: NDArray[np.str_], least: int
    ) -> "Spread | None":
        """Of one finding's probabilities (N,), labels (N,) with NaN where unknown, and patients (N,).

        None if 1 to `least` - 1 patients have a class, or are of unknown class: their number would be told.
        """
        classes = [labels == 1, labels == 0, np.isnan(labels)]
        if any(0 < len(set(patients[chosen].tolist())) < least for chosen in classes):
            return None
        positive, negative = (
            tuple(_cells(probabilities[chosen], patients[chosen], least, toward))
            for chosen, toward in zip(classes[:2], (1, -1), strict=True)
        )
        return cls(positive=positive, negative=negative[::-1])

    def __iter__(self) -> Iterator[Cell]:
        yield from (*self.positive, *self.negative)

    def rebuilt(self) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Probabilities and labels of sequences that are spread so."""
        parts = [
            (_members(cell), label)
            for cells, label in ((self.positive, 1), (self.negative, 0))
            for cell in cells
        ]
        probabilities = [1.0 / (1.0 + np.exp(-np.clip(logits, -LARGEST, LARGEST))) for logits, _ in parts]
        labels = [np.full(len(logits), label, np.float32) for logits, label in parts]
        return np.concatenate([*probabilities, np.zeros(0)]), np.concatenate(
            [*labels, np.zeros(0, np.float32)]
        )


def _cells(probabilities: Reals, patients: NDArray[np.str_], least: int, toward: int) -> Iterator[Cell]:
    """From the side of the other class on (`toward` 1: upwards), each as small as it may be; what is left
    over goes into the last, where it changes least."""
    order = np.argsort(toward * probabilities, kind="stable")
    p = np.asarray(probabilities, np.float64)[order]
    with np.errstate(divide="ignore"):
        logits = np.clip(np.log(p) - np.log1p(-p), -LARGEST, LARGEST)
    ends, seen = [], set[str]()
    enough = max(1, least, math.ceil(len(set(patients.tolist())) / MOST_CELLS))
    for place, patient in enumerate(patients[order].tolist(), start=1):
        seen.add(patient)
        if len(seen) == enough:
            ends.append(place)
            seen = set()
    if not ends:
        return
    ends[-1] = len(logits)
    for start, end in zip([0, *ends], ends, strict=False):
        some = logits[start:end]
        deviation = float(some.std())
        skew = float((((some - some.mean()) / deviation) ** 3).mean()) if deviation > 0 else 0.0
        yield Cell(
            n=end - start,
            n_patients=len(set(patients[order][start:end].tolist())),
            mean=round(float(some.mean()), 2),
            spread=round(deviation, 2),
            skew=round(min(max(skew, -MOST_SKEW), MOST_SKEW), 1),
        )


def _members(cell: Cell) -> NDArray[np.float64]:
    """Logits with the cell's moments: the quantiles of a normal distribution, bent by the skew (Cornish and
    Fisher, 1938); or, where the skew is large, the two points that have these three moments."""
    if cell.n < 2 or cell.spread == 0:
        return np.full(cell.n, cell.mean)
    if abs(cell.skew) >= ONE_SIDED:
        return _two_points(cell)
    normal = np.array([NormalDist().inv_cdf((i + 0.5) / cell.n) for i in range(cell.n)])
    bent = np.sort(normal + cell.skew / 6 * (normal**2 - 1))
    members: NDArray[np.float64] = cell.mean + cell.spread * (bent - bent.mean()) / bent.std()
    return members


def _two_points(cell: Cell) -> NDArray[np.float64]:
    share = 0.5 * (1 - cell.skew / math.sqrt(cell.skew**2 + 4))  # of those at the upper point
    n_upper = min(max(round(share * cell.n), 1), cell.n - 1)
    odds = math.sqrt(n_upper / (cell.n - n_upper))
    lower, upper = cell.mean - cell.spread * odds, cell.mean + cell.spread / odds
    return np.repeat([lower, upper], [cell.n - n_upper, n_upper])
