"""What a site may say of its training patients before round 1: counts that pool over sites."""

import numpy as np
from numpy.typing import NDArray

from client.imaging.cohort import Cohort
from common import wire

_FIRST_OF_NEXT = (2, 5, 9)
"""Where the classes of wire.LENGTHS part: 1, 2 to 4, 5 to 8, 9 and more images."""


def survey(cohort: Cohort, indices: NDArray[np.intp]) -> dict[str, float]:
    """Patients by the length of their longest sequence, and by finding: positive in any sequence, else
    negative in any."""
    patients, who = np.unique(cohort.patients[indices], return_inverse=True)
    longest = np.zeros(len(patients), np.int64)
    np.maximum.at(longest, who, cohort.lengths[indices])
    classes = np.bincount(np.searchsorted(_FIRST_OF_NEXT, longest, side="right"), minlength=len(wire.LENGTHS))
    counts = dict(zip(wire.LENGTHS, map(float, classes), strict=True))
    for k, finding in enumerate(cohort.findings):
        positive, negative = (
            np.isin(np.arange(len(patients)), who[cohort.labels[indices, k] == value]) for value in (1, 0)
        )
        counts[wire.positive(finding)] = float(positive.sum())
        counts[wire.negative(finding)] = float((negative & ~positive).sum())
    return counts
