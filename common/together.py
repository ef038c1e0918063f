"""Patients of several hospitals in one list."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def told_apart(by_hospital: Sequence[NDArray[np.str_]]) -> NDArray[np.str_]:
    """The pseudonyms of all hospitals, one after another. Where two hospitals have the same one, which is no
    sign of the same person, each gets its hospital's number before it."""
    n_names = sum(len(np.unique(names)) for names in by_hospital)
    together = np.concatenate(list(by_hospital))
    if len(np.unique(together)) == n_names:
        return together
    return np.concatenate([np.char.add(f"{k}:", names) for k, names in enumerate(by_hospital)])
