"""Grey values by scanner: whose images look unlike the others', too dark, or cut off at an end."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from client.imaging.cohort import Cohort

BINS = 32
SEEN = 200
"""Images of one scanner that are counted, evenly over the cohort: enough for a histogram."""
FAR = 0.15
"""Mean distance of grey values, of the whole range, from which a scanner is called unlike the others: a
judgement, not a measurement."""
CUT_OFF = 0.5
"""Share of the pixels of an image at both ends of the range together from which it is called cut off: a
chest beside air and table leaves less at them; a soft-tissue window of a lung leaves most."""


@dataclass(frozen=True)
class Greys:
    """One scanner's."""

    images: int  # that were counted
    histogram: list[float]  # BINS shares of pixels, over [0, 1]
    distance: float | None  # to the other scanners; None where there is none
    cut_off: float  # share of the images


def greys_of(cohort: Cohort) -> Mapping[str, Greys]:
    """By scanner; the sequences of all scanners in the same way."""
    counted = {
        str(name): _count(cohort, np.flatnonzero(cohort.scanners == name))
        for name in np.unique(cohort.scanners)
    }
    return {
        name: Greys(
            images=n,
            histogram=(histogram / histogram.sum()).round(5).tolist(),
            distance=_distance(histogram, [h for other, (h, _, _) in counted.items() if other != name]),
            cut_off=cut / n,
        )
        for name, (histogram, n, cut) in counted.items()
    }


def _count(cohort: Cohort, sequences: NDArray[np.intp]) -> tuple[NDArray[np.float64], int, int]:
    """Pixels by grey value, images, and those cut off."""
    frames = [(int(i), t) for i in sequences for t in range(int(cohort.lengths[i]))]
    seen = [frames[k] for k in np.unique(np.linspace(0, len(frames) - 1, min(SEEN, len(frames))).astype(int))]
    histogram, cut = np.zeros(BINS), 0
    for i, t in seen:
        frame = cohort.frames(i)[t]
        top = np.iinfo(frame.dtype).max
        histogram += np.bincount((frame.astype(np.int64).ravel() * BINS) // (top + 1), minlength=BINS)
        cut += int(((frame == 0) | (frame == top)).mean() > CUT_OFF)
    return histogram, len(seen), cut


def _distance(one: NDArray[np.float64], others: list[NDArray[np.float64]]) -> float | None:
    """How far grey values must move, on average, to make it another's histogram (Wasserstein's first
    distance): the median over the others, the lower one, so that one odd scanner makes no other odd."""
    if not others:
        return None
    ours = np.cumsum(one / one.sum())
    moves = sorted(float(np.abs(ours - np.cumsum(other / other.sum())).mean()) for other in others)
    return round(moves[(len(moves) - 1) // 2], 4)
