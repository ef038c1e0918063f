"""The weighted mean of updates, folded in as they arrive, and the same to the last bit in whatever order they
do."""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from common.arrays import BLOCK, Reals, blocks
from common.errors import WireError
from common.wire import Weights, l2_norm

WEIGHT_BITS = 26
"""All weights together stay below 2**26: more patients than any federation has."""


def units_of(max_norm: float) -> float:
    """How many units one is, where no update has an entry beyond `max_norm`: all sums fit into 63 bits."""
    return float(2.0 ** (62 - WEIGHT_BITS - math.ceil(math.log2(max_norm))))


class Rounding:
    """Numbers times a factor (a weight times the units), rounded, a block at a time in memory of its own:
    memory that is new for each block takes as long as the sum."""

    def __init__(self, factor: float) -> None:
        self._factor = factor
        self._terms, self._integers = np.empty(BLOCK, np.float64), np.empty(BLOCK, np.int64)

    def of(self, numbers: Reals) -> NDArray[np.int64]:
        """Of at most BLOCK numbers; what it gave before is overwritten."""
        terms, integers = self._terms[: len(numbers)], self._integers[: len(numbers)]
        np.copyto(terms, numbers)
        np.rint(np.multiply(terms, self._factor, out=terms), out=terms)
        np.copyto(integers, terms, casting="unsafe")
        return integers


class WeightedMean:
    """sum(weight_i * update_i) / sum(weight_i) in memory for one set of weights, however many sites there
    are.

    Floating-point sums depend on the order of their terms, and replies arrive in any order. Each term is
    therefore rounded to a multiple of a fixed unit and summed as a 64-bit integer, which is exact: 63 bits
    hold the largest possible sum (updates are bounded by `max_norm`), and the unit is what is left, 2**-29
    for a bound of 100. The mean is off by at most half a unit per site over the total weight, far below
    float32's own rounding.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], max_norm: float) -> None:
        self._units = units_of(max_norm)
        self._sums: dict[str, NDArray[np.int64]] = {
            name: np.zeros(shape, np.int64) for name, shape in shapes.items()
        }
        self.weight = 0.0

    def add(self, update: Weights, weight: float) -> None:
        """Fold in one update whose entries are at most `max_norm`. Raises WireError if all weights exceed
        2**26."""
        self._count(weight)
        rounding = Rounding(weight * self._units)
        for name, total in self._sums.items():
            sums, terms = total.reshape(-1), update[name].reshape(-1)
            for block in blocks(len(sums)):
                sums[block] += rounding.of(terms[block])

    def add_sum(self, sums: Mapping[str, NDArray[np.int64]], weight: float) -> None:
        """Fold in what `Rounding` made of several updates and somebody else summed, of `weight` together.
        Raises WireError as `add` does."""
        self._count(weight)
        for name, total in self._sums.items():
            total += sums[name]

    def _count(self, weight: float) -> None:
        if self.weight + weight > 2.0**WEIGHT_BITS:
            raise WireError(f"with it, the sites' weights exceed {2**WEIGHT_BITS} in total")
        self.weight += weight

    def updated(self, weights: Weights) -> Weights:
        """`weights` + the mean so far, as apply_update adds them. Raises ZeroDivisionError before the first
        update."""
        scale = 1.0 / (self._units * self.weight)
        return {name: _added(w, self._sums[name], scale) for name, w in weights.items()}


def clipped(update: Weights, max_norm: float) -> Weights:
    """An update, or a mean of some, of at most this norm. Raises WireError if it is not finite."""
    norm = l2_norm(update)
    if not np.isfinite(norm):
        raise WireError("the update holds NaN or infinity")
    factor = np.float32(min(1.0, max_norm / norm) if norm > 0 else 1.0)
    return update if factor == 1.0 else {name: value * factor for name, value in update.items()}


def apply_update(weights: Weights, update: Mapping[str, Reals]) -> Weights:
    """weights + update, added in float64 and rounded once to float32."""
    return {name: _added(w, update[name], 1.0) for name, w in weights.items()}


Numbers = NDArray[np.int64] | Reals


def _added(weight: Reals, more: Numbers, scale: float) -> NDArray[np.float32]:
    """weight + scale * more."""
    result = np.empty(weight.shape, np.float32)
    flat, terms, sums = result.reshape(-1), more.reshape(-1), weight.reshape(-1)
    for block in blocks(len(flat)):
        flat[block] = np.add(sums[block], terms[block] * np.float64(scale), dtype=np.float64)
    return result
