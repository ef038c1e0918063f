"""What a site answers instead of training: random numbers of the model's size, the same in every system."""

import os
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Weights = dict[str, NDArray[np.float32]]
ARRIVALS = "PNEUMOFED_ARRIVALS"
"""Names the file in which a site notes when it was given a round; without it, it notes nothing."""


def arrived() -> None:
    """Note that a round's request is with the site's handler, in seconds since 1970."""
    if path := os.environ.get(ARRIVALS):
        with Path(path).open("a") as file:
            file.write(f"{time.time()}\n")


def update(shapes: Mapping[str, tuple[int, ...]], site: str, round: int) -> Weights:
    """As small as a trained one, new for each site ("site-1", …) and round; who knows both can make it again.

    The numbers are handed out in the order of the names, so that one long tensor has the same.
    """
    rng = np.random.default_rng([int(site.rpartition("-")[2]), round])
    scale = np.float32(1e-4)
    return {name: rng.standard_normal(shapes[name], dtype=np.float32) * scale for name in sorted(shapes)}
