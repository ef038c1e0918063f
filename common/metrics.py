"""How well probabilities agree with labels, with 95 % intervals by bootstrap over patients (but of `ece`).

Every metric takes the sorted scores once and a matrix of weights, one row a resample: a resample of patients
only changes how often each sequence counts. So a thousand resamples cost a few cumulative sums, and the plain
value is the row of ones. Undefined values (one class only) are NaN.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.arrays import Names, Reals
from common.results.form import Interval, Number, Result

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Ranked:
    """Scores in ascending order with their labels; equal scores form one group."""

    scores: Floats  # (N,) in [0, 1]
    labels: Floats  # (N,) 0 or 1
    starts: NDArray[np.intp]  # (G,) where each group of equal scores begins
    order: NDArray[np.intp]  # (N,) the sort, to bring weights along

    @classmethod
    def of(cls, scores: Reals, labels: Reals) -> "Ranked":
        order = np.argsort(scores, kind="stable")
        ranked = np.asarray(scores, dtype=np.float64)[order]
        starts = np.flatnonzero(np.r_[True, np.diff(ranked) > 0]) if len(ranked) else np.zeros(0, np.intp)
        return cls(ranked, np.asarray(labels, dtype=np.float64)[order], starts, order)

    def group_sums(self, weights: Floats) -> tuple[Floats, Floats]:
        """(R, N) weights -> positives and negatives in each group, (R, G) each."""
        positive = np.add.reduceat(weights * self.labels, self.starts, axis=1)
        negative = np.add.reduceat(weights * (1.0 - self.labels), self.starts, axis=1)
        return positive, negative


Metric = Callable[[Ranked, Floats], Floats]


def auroc(ranked: Ranked, weights: Floats) -> Floats:
    """Area under the ROC curve: P(score of a positive > of a negative) + P(equal) / 2 (Mann and Whitney,
    1947)."""
    positive, negative = ranked.group_sums(weights)
    below = np.cumsum(negative, axis=1) - negative
    with np.errstate(invalid="ignore"):
        area: Floats = (positive * (below + negative / 2)).sum(1) / (positive.sum(1) * negative.sum(1))
    return area


def auprc(ranked: Ranked, weights: Floats) -> Floats:
    """Average precision: the sum over thresholds of precision x gain in recall, without interpolation."""
    positive, negative = (sums[:, ::-1] for sums in ranked.group_sums(weights))
    true, false = np.cumsum(positive, axis=1), np.cumsum(negative, axis=1)
    with np.errstate(invalid="ignore"):
        precision = np.where(true + false > 0, true / (true + false), 0.0)
        area: Floats = (precision * positive).sum(1) / positive.sum(1)
    return area


def sensitivity_at(specificity: float) -> Metric:
    """The largest sensitivity of any threshold whose specificity is at least `specificity`."""

    def metric(ranked: Ranked, weights: Floats) -> Floats:
        sensitivities, specificities = _rates(ranked, weights)
        best: Floats = np.where(specificities >= specificity - 1e-12, sensitivities, 0.0).max(1)
        return np.where(np.isnan(sensitivities[:, 0]), np.nan, best)

    return metric


def brier(ranked: Ranked, weights: Floats) -> Floats:
    """Mean squared difference of probability and label (Brier, 1950). 0 is perfect, 0.25 a constant 0.5."""
    with np.errstate(invalid="ignore"):
        mean: Floats = weights @ np.square(ranked.scores - ranked.labels) / weights.sum(1)
    return mean


def ece(ranked: Ranked, weights: Floats, bins: int = 15) -> Floats:
    """Expected calibration error: mean |observed - predicted| over equal bins of probability (Naeini et al.,
    2015).

    It has no interval by bootstrap: chance counts as error in every bin, and a resample adds its own. The
    percentiles lie above the value itself, and hold the truth of a calibrated model never.
    """
    chosen = np.minimum((ranked.scores * bins).astype(int), bins - 1)
    in_bin = (chosen[:, None] == np.arange(bins)).astype(np.float64)
    gap = (weights * (ranked.labels - ranked.scores)) @ in_bin
    with np.errstate(invalid="ignore"):
        error: Floats = np.abs(gap).sum(1) / weights.sum(1)
    return error


def called(scores: Reals, threshold: float | Floats) -> NDArray[np.bool_]:
    """Who has the finding by a threshold: a score equal to it counts as positive. In float64, in which
    thresholds are chosen: one just above a float32 score would be rounded to it, and call it."""
    result: NDArray[np.bool_] = scores.astype(np.float64) >= threshold
    return result


def accuracy_at(threshold: float) -> Metric:
    """Share of sequences on the right side of `threshold` (a score equal to it counts as positive)."""

    def metric(ranked: Ranked, weights: Floats) -> Floats:
        right = (called(ranked.scores, threshold) == (ranked.labels > 0.5)).astype(np.float64)
        with np.errstate(invalid="ignore"):
            mean: Floats = weights @ right / weights.sum(1)
        return mean

    return metric


def rate_at(threshold: float, label: int) -> Metric:
    """Share of those with `label` on their side of `threshold`: sensitivity (1) or specificity (0)."""

    def metric(ranked: Ranked, weights: Floats) -> Floats:
        of_class = (ranked.labels > 0.5) == bool(label)
        right = of_class & (called(ranked.scores, threshold) == bool(label))
        with np.errstate(invalid="ignore"):
            rate: Floats = (weights @ right.astype(np.float64)) / (weights @ of_class.astype(np.float64))
        return rate

    return metric


def evaluate(metric: Metric, scores: Reals, labels: Reals) -> float:
    """One metric, every sequence counted once. NaN where it is undefined."""
    if len(scores) == 0:
        return float("nan")
    return float(metric(Ranked.of(scores, labels), np.ones((1, len(scores))))[0])


def resample_patients(patients: Names, n_resamples: int, rng: np.random.Generator) -> Floats:
    """How often each sequence counts when patients are drawn with replacement: (R, N) float64.

    `patients` (N,) names each sequence's patient; a patient's sequences stay together.
    """
    _, patient = np.unique(patients, return_inverse=True)
    n = int(patient.max()) + 1 if len(patient) else 0
    counts = rng.multinomial(n, np.full(n, 1.0 / n), size=n_resamples) if n else np.zeros((n_resamples, 0))
    return counts[:, patient].astype(np.float64)


@dataclass(frozen=True)
class Estimate(Result):
    """A metric with its 95 % percentile interval and standard error; NaN where undefined."""

    value: Number
    low: Number
    high: Number
    error: Number

    @classmethod
    def of(cls, value: float, draws: Floats) -> "Estimate":
        """`draws` (R,) of the metric on resamples; the undefined ones (one class drawn) are left out."""
        draws = draws[np.isfinite(draws)]
        if not np.isfinite(value) or len(draws) < 2:
            return cls(value, float("nan"), float("nan"), float("nan"))
        low, high = np.quantile(draws, [0.025, 0.975])
        return cls(value, float(low), float(high), float(draws.std(ddof=1)))

    @property
    def interval(self) -> Interval:
        return self.low, self.high

    @property
    def known_interval(self) -> Interval | None:
        """None where there is none."""
        return self.interval if math.isfinite(self.low) else None


def macro_draws(metric: Metric, scores: Reals, labels: Reals, weights: Floats) -> tuple[float, Floats]:
    """The mean over findings of `metric`, plain and on each resample.

    Shapes: scores and labels (N, K), labels NaN where unknown (left out), weights (R, N) -> value, (R,).
    """
    values, draws = [], []
    for k in range(labels.shape[1]):
        known = ~np.isnan(labels[:, k])
        if not known.any():
            return float("nan"), np.full(len(weights), np.nan)
        ranked = Ranked.of(scores[known, k], labels[known, k])
        values.append(metric(ranked, np.ones((1, len(ranked.scores))))[0])
        draws.append(metric(ranked, weights[:, known][:, ranked.order]))
    return float(np.mean(values)), np.mean(draws, axis=0)


def macro_estimate(metric: Metric, scores: Reals, labels: Reals, weights: Floats) -> Estimate:
    """The mean over findings of `metric`, with the interval of that mean; shapes as in `macro_draws`."""
    return Estimate.of(*macro_draws(metric, scores, labels, weights[:0] if metric is ece else weights))


def youden_threshold(ranked: Ranked, weights: Floats) -> Floats:
    """The threshold with the largest sensitivity + specificity (Youden, 1950), halfway to the next lower
    score.

    NaN where only one class is present. To be chosen on validation patients, never on the ones it is judged
    on.
    """
    sensitivity, specificity = _rates(ranked, weights)
    return _threshold_below(ranked, np.argmax(specificity + (sensitivity - 1.0), axis=1), sensitivity)


def sensitivity_threshold(wanted: float) -> Metric:
    """The largest threshold whose sensitivity is at least `wanted`, in (0, 1]; else as the above."""

    def metric(ranked: Ranked, weights: Floats) -> Floats:
        sensitivity = _rates(ranked, weights)[0]  # falls from group to group
        return _threshold_below(ranked, (sensitivity >= wanted - 1e-12).sum(axis=1) - 1, sensitivity)

    return metric


def _rates(ranked: Ranked, weights: Floats) -> tuple[Floats, Floats]:
    """(R, G + 1) sensitivity and specificity where groups k, k+1, … are called; for the last nobody is. NaN
    throughout where only one class is there."""
    zero = np.zeros((len(weights), 1))
    rates = []
    for sums in ranked.group_sums(weights):
        with np.errstate(invalid="ignore", divide="ignore"):
            rates.append(np.c_[zero, np.cumsum(sums, axis=1)] / sums.sum(1, keepdims=True))
    missed, specificity = rates
    both = np.where(np.isnan(missed[:, :1]) | np.isnan(specificity[:, :1]), np.nan, 0.0)
    return 1.0 - missed + both, specificity + both


def _threshold_below(ranked: Ranked, groups: NDArray[np.intp], rates: Floats) -> Floats:
    """(R,) between a group of equal scores and the next lower one; above all of them for the group behind the
    last. NaN where the `rates` are."""
    values = np.r_[0.0, ranked.scores[ranked.starts], 1.0 if ranked.scores[-1] < 1.0 else 1.0 + 1e-9]
    return np.where(np.isnan(rates[:, 0]), np.nan, (values[groups] + values[groups + 1]) / 2)


@dataclass(frozen=True)
class Comparison:
    """Two AUROCs on the same sequences: their difference, its standard error, and p of no difference
    (two-sided)."""

    difference: float
    error: float
    p: float


def delong(one: Reals, other: Reals, labels: Reals) -> Comparison:
    """DeLong, DeLong and Clarke-Pearson, 1988, by mid-ranks (Sun and Xu, 2014). Takes sequences as
    independent.

    Args:
        one, other: (N,) scores of two models; labels (N,) 0 or 1. NaN throughout where a class has fewer than
        two.
    """
    from scipy.stats import norm, rankdata

    positive = labels == 1
    m, n = int(positive.sum()), int((~positive).sum())
    if m < 2 or n < 2:
        return Comparison(float("nan"), float("nan"), float("nan"))
    areas, by_positive, by_negative = [], [], []
    for scores in (one, other):
        ranks, within = rankdata(scores), np.empty(len(scores))
        within[positive], within[~positive] = rankdata(scores[positive]), rankdata(scores[~positive])
        beyond = ranks - within  # of the other class: how many lie below, ties by half
        areas.append(float(beyond[positive].sum() / (m * n)))
        by_positive.append(beyond[positive] / n)
        by_negative.append(1.0 - beyond[~positive] / m)
    spread = float(
        np.var(by_positive[0] - by_positive[1], ddof=1) / m
        + np.var(by_negative[0] - by_negative[1], ddof=1) / n
    )
    difference, error = areas[0] - areas[1], float(np.sqrt(spread))
    known = 1.0 if difference == 0.0 else math.nan  # of scores that do not vary there is no error
    p = float(2.0 * norm.sf(abs(difference) / error)) if error > 0.0 else known
    return Comparison(difference, error, p)
