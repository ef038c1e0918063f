"""How severe a disease is at each image, by a model whose best possible readers are known.

The log severity at image t is x_t = a + s g h_t + e_t: a patient's own level a ~ N(0, τ²), the course h that
the disease takes (its entries sum to 0), the truth s = 1 or -1, and what an image adds, e_t ~ N(0, σ²). A
negative is a positive run backwards: h and -h hold the same values, so that whoever forgets the order knows
nothing.

Given s, x is normal with the mean s g h and the covariance Σ = τ² 1 1' + σ² I. A reader who sees c'x alone
parts the classes by d = 2 g |c'h| / sqrt(c'Σc); at best, with c = Σ⁻¹h, by d = 2 g |h| / σ: 1'h is 0, and the
level drops out. The log likelihood ratio is then N(±d²/2, d²), and the AUROC of patients who are parted by d
and d' is Φ(sqrt(d² + d'²) / 2); for equal ones Φ(d / sqrt 2) (Green and Swets, 1966).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Reader = Literal["first", "last", "unordered", "difference", "ordered"]
READERS: tuple[Reader, ...] = get_args(Reader)
"""Who sees the first image alone, the last, all of them in no order, the last less the first, or all in
order."""


@dataclass(frozen=True)
class Course:
    """One kind of evolution."""

    shape: Callable[[int], Floats]
    """Number of images -> h, which sums to 0."""
    gain: float  # g
    level: float  # τ
    error: float  # σ
    least: int  # images

    def draw(self, sign: float, n: int, rng: np.random.Generator) -> Floats:
        """(n,) log severities of one patient; `sign` is the truth, 1 or -1."""
        own, errors = rng.normal(0.0, self.level), rng.normal(0.0, self.error, n)
        return np.asarray(own + sign * self.gain * self.shape(n) + errors)

    def separation(self, reader: Reader, n: int) -> float:
        """d of the best that a reader can do with `n` images."""
        h = self.shape(n)
        if reader == "ordered":
            return 2.0 * self.gain * float(np.linalg.norm(h)) / self.error
        if reader == "unordered":
            assert np.allclose(np.sort(h), np.sort(-h)), "the order is not all that tells the classes apart"
            return 0.0
        if reader == "difference":
            return 2.0 * self.gain * abs(float(h[-1] - h[0])) / (math.sqrt(2.0) * self.error)
        seen = h[0] if reader == "first" else h[-1]
        return 2.0 * self.gain * abs(float(seen)) / math.hypot(self.level, self.error)


def rise(n: int) -> Floats:
    """From -1/2 to 1/2, evenly."""
    return np.linspace(-0.5, 0.5, n, dtype=np.float64)


def flare(n: int) -> Floats:
    """A plateau, then up, down below it, and back: the label is the latest change, and neither end tells
    it."""
    return np.concatenate([np.zeros(n - 4), [0.0, 1.0, -1.0, 0.0]])


COURSES = {
    "trend": Course(rise, gain=0.30, level=0.45, error=0.13, least=3),
    "relapse": Course(flare, gain=0.15, level=0.40, error=0.13, least=4),
}


def optima(course: Course, positive: Sequence[int], negative: Sequence[int]) -> Mapping[Reader, float]:
    """The AUROC that no reader of a kind can beat, among patients with so many images each."""
    return {reader: _optimum(course, reader, positive, negative) for reader in READERS}


def _optimum(course: Course, reader: Reader, positive: Sequence[int], negative: Sequence[int]) -> float:
    if not positive or not negative:
        return math.nan
    shares = [np.unique(lengths, return_counts=True) for lengths in (positive, negative)]
    total = 0.0
    for n, k in zip(*shares[0], strict=True):
        for m, j in zip(*shares[1], strict=True):
            d = math.hypot(course.separation(reader, int(n)), course.separation(reader, int(m)))
            total += k * j * 0.5 * (1.0 + math.erf(d / 2.0 / math.sqrt(2.0)))
    return float(total / (len(positive) * len(negative)))
