"""A threshold and a temperature from the sites' noisy counts (common/soft_counts.py).

The counts of a class tell how many patients it has, and mean and mean square of their probabilities. These
are taken to follow a beta distribution in each class, which stays within (0, 1) and leans to a side as the
probabilities of sure models do; both are as concentrated (a + b), since noise leaves that less sure than the
means. The plan's rule then chooses a threshold, and the temperature of the smallest cross-entropy is fitted,
as on real scores. How sure both are is found by drawing patients of these distributions, and the noise, again
and again (a parametric bootstrap: Efron and Tibshirani, 1993).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common import calibration, wire
from common.errors import WireError
from common.metrics import Estimate, Ranked
from common.plan import Plan
from common.results.rounds import Evaluation, PrivateScores
from common.scores import threshold_rule
from common.seeds import numpy_generator
from common.shares import largest_weight
from common.soft_counts import NOISE, Counts, from_numbers, parts_of

Floats = NDArray[np.float64]
DRAWS = 200
MOST_LOST = 0.05
"""Share of the draws in which a finding may be lost in the noise: with more, nothing is concluded."""
IMPOSSIBLE = 10.0
"""Of the noise's deviations: so far below zero no honest count falls."""

_LOGITS = np.linspace(-11.975, 11.975, 480)  # the cells into which a distribution is cut
_P = calibration.calibrated(_LOGITS, 1.0)
_EDGES = np.r_[0.0, calibration.calibrated((_LOGITS[1:] + _LOGITS[:-1]) / 2.0, 1.0), 1.0]
_CELLS = Ranked.of(np.r_[_P, _P], np.repeat([0.0, 1.0], len(_P)))  # of one class, then of the other
_LOSSES = np.array(
    [
        [np.logaddexp(0.0, _LOGITS / t) - label * _LOGITS / t for t in calibration.TEMPERATURES]
        for label in (0, 1)
    ]
)  # (2 classes, temperatures, cells)


@dataclass(frozen=True)
class _Fit:
    """R sets of counts of K findings, as distributions of patients."""

    n: Floats  # (R, K, 2) patients of each class
    masses: Floats  # (R, K, 2, cells) each class's sum to 1
    kept: NDArray[np.bool_]  # (R, K) where noise has not taken a class, its spread, or the order of the two

    @classmethod
    def of(cls, counts: Floats) -> "_Fit":
        """Of (R, K, 2, 3)."""
        from scipy.special import betainc  # takes memory that most servers never need

        n = counts.sum(axis=-1)
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = (counts[..., 2] + counts[..., 1] / 2.0) / n
            spread = (counts[..., 2] - n * mean**2).sum(axis=-1)  # within the classes
            most = (n * mean * (1.0 - mean)).sum(axis=-1)  # of probabilities that are 0 or 1
            low, high = mean[..., 0], mean[..., 1]
            kept = (n.min(axis=-1) >= 1.0) & (low > 0.0) & (low < high) & (high < 1.0)
            kept &= (spread > 0.0) & (spread < most)
            concentration = np.where(kept, most / spread - 1.0, 1.0)[..., None]
        mean = np.where(kept[..., None], mean, 0.5)
        shape = (mean * concentration)[..., None], ((1.0 - mean) * concentration)[..., None]
        return cls(n, np.diff(betainc(*shape, _EDGES), axis=-1), kept)

    def thresholds(self, plan: Plan) -> Floats:
        """(R, K) by the plan's rule."""
        rule = threshold_rule(plan)
        weights = self.masses.reshape(*self.kept.shape, -1)[..., _CELLS.order]
        chosen = [rule(_CELLS, weights[:, k]) for k in range(weights.shape[1])]
        return np.where(self.kept, np.stack(chosen, axis=1), np.nan)

    def temperatures(self) -> Floats:
        """(R,) of the smallest cross-entropy, over the findings that are kept; NaN at an end of what is
        tried, beyond which it may lie."""
        n = np.where(self.kept[..., None], self.n, 0.0)
        with np.errstate(invalid="ignore"):
            losses = np.einsum("rkc,rkcg,ctg->rt", n, self.masses, _LOSSES) / n.sum(axis=(1, 2))[:, None]
        pooled = [dict(zip(calibration.NUMBERS, map(float, row), strict=True)) for row in losses]
        found = np.array([calibration.fit_temperature(one) for one in pooled])
        return np.where(np.isin(found, calibration.TEMPERATURES[:: len(_LOSSES[0]) - 1]), np.nan, found)

    def redrawn(self, counts: Counts, rng: np.random.Generator) -> Floats:
        """(DRAWS, K, 2, 3) of as many other patients of the first set, which was fitted to `counts`; of a
        finding that is not kept these."""
        drawn = np.repeat(counts[None], DRAWS, axis=0)
        for k in np.flatnonzero(self.kept[0]):
            for c, n in enumerate(self.n[0, k]):
                share = self.masses[0, k, c] / self.masses[0, k, c].sum()
                drawn[:, k, c] = rng.multinomial(round(n), share, DRAWS) @ parts_of(_P)
        return drawn


def concluded(sums: Counts, noise: float, plan: Plan) -> PrivateScores:
    """From the counts of all patients, each with noise of this standard deviation. NaN where more than
    MOST_LOST of the draws are."""
    rng = numpy_generator(plan.seed, "private scores")
    drawn = _Fit.of(sums[None]).redrawn(sums, rng)
    fit = _Fit.of(np.concatenate([sums[None], drawn + rng.normal(0.0, noise, drawn.shape)]))
    *thresholds, temperature = (
        _estimate(values) for values in np.c_[fit.thresholds(plan), fit.temperatures()].T
    )
    return PrivateScores(
        thresholds=dict(zip(plan.findings, thresholds, strict=True)), temperature=temperature
    )


def _estimate(values: Floats) -> Estimate:
    """Of the value, and its draws behind it."""
    drowned = np.isnan(values[1:]).mean() > MOST_LOST
    return Estimate.of(math.nan if drowned else float(values[0]), values[1:])


def checked(numbers: wire.Numbers, plan: Plan) -> wire.Numbers:
    """A site's noisy counts, if they can be that.

    Raises:
        WireError: a number is not finite, there is no noise, or more patients are missing than noise takes.
    """
    counts, noise = from_numbers(numbers, plan.findings), numbers[NOISE]
    if not np.isfinite([*counts.reshape(-1), noise]).all() or noise <= 0.0:
        raise WireError("found noisy counts that are not finite, or without noise")
    if counts.min() < -IMPOSSIBLE * noise:
        raise WireError(f"found a count of {counts.min():.4g} patients, with noise of {noise:.4g}")
    return numbers


def pool_privately(sites: Mapping[str, wire.Numbers], failed: Mapping[str, str], plan: Plan) -> Evaluation:
    """What all sites' counts come to; of three or more sites none has more than `federation.max_share` of the
    patients."""
    told = {site: from_numbers(numbers, plan.findings) for site, numbers in sites.items()}
    sizes = {site: max(0.0, float(counts.sum())) for site, counts in told.items()}
    cap = largest_weight(list(sizes.values()), plan.federation.max_share)
    shares = {site: min(1.0, cap / n) if n > 0.0 else 1.0 for site, n in sizes.items()}
    sums = sum((shares[s] * counts for s, counts in told.items()), np.zeros((len(plan.findings), 2, 3)))
    noise = math.hypot(*(shares[s] * numbers[NOISE] for s, numbers in sites.items()))
    private = concluded(sums, noise, plan)
    return Evaluation(
        loss=math.nan,
        auroc=math.nan,
        brier=math.nan,
        temperature=private.temperature.value,
        auroc_se=math.nan,
        sites=sites,
        failed=failed,
        private=private,
    )
