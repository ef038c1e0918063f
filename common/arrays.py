"""Arrays by what they may hold, for signatures."""

import numpy as np
from numpy.typing import NDArray

Reals = NDArray[np.float32] | NDArray[np.float64]
Pixels = NDArray[np.uint8] | NDArray[np.uint16]
Names = NDArray[np.str_] | NDArray[np.int64]
"""Of patients, for example: to be told apart, not to be computed with."""
