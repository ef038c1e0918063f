"""Updates as integers of few bits, which can be summed under masks: under a plan with a codec and
`aggregation.secure`.

A sum of integers means something if all sites count in one unit, so that a site cannot take its own (as
common/codec.py does). For each tensor the server names a bound, from what the last round's mean was; the
roster holds it, and with it the sites' word for the survivors. A number x of a site that counts as the share
p of all becomes the integer floor(p x / step + u), u uniform in [0, 1), which is right on average; x beyond
the bound is cut off. What is lost of an update either way is put on the site's next one (client/coded.py).

No sum wraps. Let there be n sites of shares p_i with sum(p_i) = 1 and integers of b bits, which hold -H to H,
H = 2**(b-1) - 1. A tensor with the bound M has the step M / (H - n), so that |p_i x / step| <= p_i (H - n),
and the integer, rounded up or down, is at most 1 + floor(p_i (H - n)) in size: to that it is held. All n of
them together are at most n + (H - n) = H; and so is the sum of those that stay to the end.

Of the plan, H >= max(the codec's largest integer, 2 n), where n < 2 threshold: at least half of what the ring
holds is left for the numbers themselves. Of the first round there is no mean before it, nor after one that is
zero: each bound is then the largest norm of an update, in a ring of WIDE bits, where steps are tiny.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from common.arrays import blocks
from common.errors import WireError
from common.plan import Plan
from common.secure.masks import Ring
from common.secure.ring import FULL, Shapes, from_ring, length
from common.wire import Weights

WIDE = 32
"""Bits, where nobody knows yet how large updates are."""
ABOVE = 2.0
"""A bound over the largest number of the mean before: single updates are larger than their mean, and may
grow."""
LEAST = 2.0**-16
"""A bound over the largest of all: what was zero can become something."""
TINY = 1e-30
"""Where all bounds are smaller, nothing was trained."""
Bounds = Mapping[str, float]


def narrow_bits(plan: Plan) -> int:
    """Of an integer in the rounds after the first."""
    n_most = 2 * (plan.aggregation.threshold or 0) - 1
    return max(plan.codec.levels, 2 * n_most).bit_length() + 1


def widths(plan: Plan) -> tuple[int, ...]:
    """Bits that an integer of a masked update may have under the plan."""
    return (FULL,) if plan.codec.name == "none" else (WIDE, narrow_bits(plan))


@dataclass(frozen=True)
class Levels:
    """The integers of one round."""

    shapes: Shapes
    n_sites: int
    bits: int
    bounds: Bounds

    @classmethod
    def of(cls, plan: Plan, shapes: Shapes, n_sites: int, bounds: Bounds | None) -> "Levels | None":
        """None where the plan has no codec.

        Raises:
            WireError: the bounds are of other tensors than the model's.
        """
        if plan.codec.name == "none":
            if bounds is not None:
                raise WireError("found bounds of tensors, which the plan, without a codec, has not")
            return None
        if bounds is None:
            return cls(shapes, n_sites, WIDE, dict.fromkeys(shapes, plan.federation.max_update_norm))
        if bounds.keys() != shapes.keys():
            raise WireError("found bounds of other tensors than the model's")
        return cls(shapes, n_sites, narrow_bits(plan), bounds)

    @property
    def room(self) -> int:
        """What all rounded numbers may come to, but for their rounding."""
        return (1 << (self.bits - 1)) - 1 - self.n_sites

    def encode(self, values: Weights, share: Fraction, rng: np.random.Generator) -> tuple[Ring, Weights]:
        """The integers (length,) of a site that counts as `share` of all, tensors in the order of their
        names; and the values that they stand for."""
        most, vector, told, start = 1 + int(share * self.room), np.empty(length(self.shapes), np.int64), {}, 0
        for name in sorted(values):
            numbers, factor = values[name].reshape(-1), float(share) / self._step(name)
            integers = vector[start : start + len(numbers)]
            for block in blocks(len(numbers)):
                integers[block] = _rounded(numbers[block] * np.float64(factor), most, rng)
            told[name] = (integers / np.float64(factor)).astype(np.float32).reshape(values[name].shape)
            start += len(numbers)
        return vector.view(np.uint64), {name: told[name] for name in values}

    def decode(self, total: Ring, share: float) -> Weights:
        """The mean of sites that count as `share` of all, from the sum of their integers."""
        sums = from_ring(total, self.shapes, self.bits)
        return {
            name: (sums[name] * (self._step(name) / share)).astype(np.float32).reshape(shape)
            for name, shape in self.shapes.items()
        }

    def slack(self, share: float) -> float:
        """By how much rounding can make the mean's norm larger, at most."""
        squares = sum(np.prod(shape) * self._step(name) ** 2 for name, shape in self.shapes.items())
        return self.n_sites * float(np.sqrt(squares)) / share

    def _step(self, name: str) -> float:
        return self.bounds[name] / self.room


def _rounded(numbers: NDArray[np.float64], most: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """At random, up or down, and at most `most` in size."""
    numbers += rng.random(len(numbers), np.float32)
    return np.clip(np.floor(numbers, out=numbers), -most, most, out=numbers)


def bounds_after(mean: Weights, max_norm: float) -> dict[str, float]:
    """Each tensor's bound for the round after the one of this mean; empty if that is zero."""
    largest = {name: ABOVE * float(np.abs(value).max(initial=0.0)) for name, value in mean.items()}
    least = LEAST * max(largest.values(), default=0.0)
    if least < TINY:
        return {}
    return {name: min(max(bound, least), max_norm) for name, bound in largest.items()}
