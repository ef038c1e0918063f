"""Whether an X-ray's pixels look like a chest from the front.

A small network on 24 x 24 grey values; `benchmarks/chest_detector.py` trains it and says how often it errs.
It notes, for somebody to look, and drops nothing: what a header says counts for more (`body_part.py`).
"""

from functools import cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 24
"""Smaller images are not judged."""
LEAST = -2.0
"""The logit below which an image is said to look otherwise: rather too few than too many."""
FILE = Path(__file__).with_suffix(".npz")
Real = NDArray[np.float32]


class _Network(NamedTuple):
    w1: Real  # (hidden, SIDE * SIDE)
    b1: Real
    w2: Real  # (hidden,)
    b2: Real


def looks_like_chest(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> bool:
    """A square image of at least SIDE pixels a side."""
    w1, b1, w2, b2 = _network()
    hidden = np.maximum(w1 @ features(pixels.astype(np.float32)) + b1, 0.0)
    return float((w2 @ hidden + b2).item()) >= LEAST


def features(image: Real) -> Real:
    """(SIDE * SIDE,): averaged over areas, of mean 0 and deviation 1; of an image of one grey value, 0."""
    small = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA).reshape(-1)
    centred = small - small.mean()
    deviation = centred.std()
    return np.asarray(centred / deviation if deviation > 0 else centred, np.float32)


@cache
def _network() -> _Network:
    with np.load(FILE, allow_pickle=False) as layers:
        return _Network(*(layers[name].astype(np.float32) for name in _Network._fields))
