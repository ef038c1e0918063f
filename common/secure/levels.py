"""Updates as integers of few bits, which can be summed under masks: under a plan with a codec and
`aggregation.secure`.

A sum of integers means something if all sites count in one unit, so that a site cannot take its own (as
common/codec.py does). The server names a bound for each tensor; it is in the roster, and so in the sites'
word for the survivors. A number x of a site that counts as the share p of all becomes the integer
floor(p x / step + u), u uniform in [0, 1), which is right on average. The site alone may know u
(common/secure/keys.py): who knows it, and names bounds so large that most numbers become zeros, sees by u
whose number became one. A tensor with a number beyond its bound is made smaller as a whole: were numbers cut
off, a server that names tiny bounds would see their signs, and with different shares whose they are. So
would it of a tensor of a number or two: tensors of fewer than FEW have one bound with their neighbours. What
is lost of an update in these ways is put on the site's next one (client/coded.py).

Behind the numbers comes an integer for each bound: 1 if a number was beyond it. Of their sum the next
bounds are made (after Andrew et al., 2021): GROWS times as large where any site's was, else SHRINKS. A mean
cannot tell: large updates of sites that disagree have a small one. And as it is a number of sites, another
sum is none of updates.

No sum wraps. Let there be n sites of shares p_i with sum(p_i) = 1 and integers of b bits, which hold -H to H,
H = 2**(b-1) - 1. A tensor with the bound M has the step M / (H - n), so that |p_i x / step| <= p_i (H - n),
and the integer, rounded up or down, is at most 1 + floor(p_i (H - n)) in size: to that it is held. All n of
them together are at most n + (H - n) = H; and so is the sum of those that stay to the end.

Of the plan, H >= max(the codec's largest integer, n + 4 sqrt(n)), where n < 2 threshold: what rounding adds
to the mean, at most half a step a site, has a standard deviation of at most an eighth of the bound (with less
room learning fails: docs/performance.md). In the first round nobody knows how large updates are: each bound
is the largest norm of an update, in a ring of WIDE bits, where steps are tiny; and again after one of zeros.
"""

import math
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
"""A bound over the largest number of the first mean: single updates are larger than it."""
GROWS, SHRINKS = 4.0, 0.8
LEAST = 2.0**-16
"""A bound over the largest of all: what was zero can become something."""
FEW = 16
"""Numbers that a bound is of, at least, where the model has so many."""
TINY = 1e-30
"""Where all bounds are smaller, nothing was trained."""
Bounds = Mapping[str, float]


def narrow_bits(plan: Plan) -> int:
    """Of an integer in the rounds after the first."""
    n_most = 2 * (plan.aggregation.threshold or 0) - 1
    return max(plan.codec.levels, n_most + math.ceil(4 * math.sqrt(n_most))).bit_length() + 1


def bounded(shapes: Shapes) -> dict[str, list[str]]:
    """The tensors that have one bound, by the name of the first, which is the bound's: neighbours in the
    order of their names."""
    groups: list[list[str]] = []
    for name in sorted(shapes):
        if groups and length({n: shapes[n] for n in groups[-1]}) < FEW:
            groups[-1].append(name)
        else:
            groups.append([name])
    if len(groups) > 1 and length({n: shapes[n] for n in groups[-1]}) < FEW:
        groups[-2:] = [groups[-2] + groups[-1]]
    return {group[0]: group for group in groups}


def n_integers(plan: Plan, shapes: Shapes) -> int:
    """How many a masked update has."""
    return length(shapes) + (0 if plan.codec.name == "none" else len(bounded(shapes)))


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
        names = bounded(shapes).keys()
        if plan.codec.name == "none":
            if bounds is not None:
                raise WireError("found bounds of tensors, which the plan, without a codec, has not")
            return None
        if bounds is None:
            return cls(shapes, n_sites, WIDE, dict.fromkeys(names, plan.federation.max_update_norm))
        if bounds.keys() != names:
            raise WireError("found bounds of other tensors than the model's")
        return cls(shapes, n_sites, narrow_bits(plan), bounds)

    @property
    def room(self) -> int:
        """What all rounded numbers may come to, but for their rounding."""
        return (1 << (self.bits - 1)) - 1 - self.n_sites

    def encode(self, values: Weights, share: Fraction, rng: np.random.Generator) -> tuple[Ring, Weights]:
        """The integers of a site that counts as `share` of all, tensors in the order of their names, then
        which bounds numbers are beyond; and the values that they stand for."""
        most, told, parts, beyond = 1 + int(share * self.room), {}, [], []
        for first, names in bounded(self.shapes).items():
            bound, largest = self.bounds[first], max(_largest(values[name]) for name in names)
            beyond.append(largest > bound)
            factor = float(share) / (bound / self.room)
            shrunk = min(1.0, bound / largest) if largest > 0 else 1.0
            for name in names:
                parts.append(_rounded(values[name].reshape(-1), factor * shrunk, most, rng))
                told[name] = (parts[-1] / np.float64(factor)).astype(np.float32).reshape(values[name].shape)
        vector = np.concatenate([*parts, np.array(beyond, np.int64)])
        return vector.view(np.uint64), {name: told[name] for name in values}

    def decode(self, total: Ring, share: float) -> Weights:
        """The mean of sites that count as `share` of all, from the sum of their integers."""
        sums, steps = from_ring(total, self.shapes, self.bits), self._steps()
        return {
            name: (sums[name] * (steps[name] / share)).astype(np.float32).reshape(shape)
            for name, shape in self.shapes.items()
        }

    def n_beyond(self, total: Ring) -> NDArray[np.int64]:
        """Of how many sites numbers were beyond each bound. Of updates no more than there are, and no less
        than none."""
        n = len(self.bounds)
        return from_ring(total[-n:], {"": (n,)}, self.bits)[""]

    def next_bounds(self, total: Ring, mean: Weights, max_norm: float) -> dict[str, float]:
        """For the round after the one of this sum and mean; empty after zeros."""
        if self.bits == WIDE:
            bounds = {
                first: ABOVE * max(_largest(mean[name]) for name in names)
                for first, names in bounded(self.shapes).items()
            }
        else:
            changes = np.where(self.n_beyond(total) > 0, GROWS, SHRINKS).tolist()
            bounds = {
                first: self.bounds[first] * by for first, by in zip(sorted(self.bounds), changes, strict=True)
            }
        least = LEAST * max(bounds.values())
        return {} if least < TINY else {n: min(max(bound, least), max_norm) for n, bound in bounds.items()}

    def slack(self, share: float) -> float:
        """By how much rounding can make the mean's norm larger, at most."""
        steps = self._steps()
        squares = sum(np.prod(shape) * steps[name] ** 2 for name, shape in self.shapes.items())
        return self.n_sites * float(np.sqrt(squares)) / share

    def _steps(self) -> dict[str, float]:
        """Of each tensor."""
        groups = bounded(self.shapes).items()
        return {name: self.bounds[first] / self.room for first, names in groups for name in names}


def _largest(numbers: NDArray[np.float32]) -> float:
    return float(np.abs(numbers).max(initial=0.0))


def _rounded(
    numbers: NDArray[np.float32], factor: float, most: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Times a factor, at random up or down, and at most `most` in size."""
    integers = np.empty(len(numbers), np.int64)
    for block in blocks(len(numbers)):
        shifted = numbers[block] * np.float64(factor)
        shifted += rng.random(len(shifted), np.float32)
        integers[block] = np.clip(np.floor(shifted, out=shifted), -most, most, out=shifted)
    return integers
