"""What a finding looks like beyond its scores: sensitivity, specificity and precision at every threshold,
calibration, and who is called."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from common.metrics import Estimate
from common.plan import Plan
from common.results.run import FindingDetail, Point
from common.scores import Predictions, confusion, reliability

MAX_POINTS = 200
"""Of a curve: what a picture can show."""


def details(test: Predictions, thresholds: Sequence[Estimate], plan: Plan) -> Mapping[str, FindingDetail]:
    """Of each finding, by its own threshold."""
    return {
        finding: _detail(test, threshold, plan, k)
        for k, (finding, threshold) in enumerate(zip(plan.findings, thresholds, strict=True))
    }


def _detail(test: Predictions, threshold: Estimate, plan: Plan, finding: int) -> FindingDetail:
    one = known_of(test, finding)
    points = curve_of(one, most=None)
    enough = [point for point in points if point.specificity >= plan.evaluation.specificity - 1e-12]
    return FindingDetail(
        n_positive=int((one.labels[:, 0] == 1).sum()),
        n_negative=int((one.labels[:, 0] == 0).sum()),
        confusion=confusion(test, threshold.value, finding, threshold.known_interval),
        calibration=reliability(test, finding),
        curve=_thinned(points, MAX_POINTS),
        at_specificity=max(enough, key=lambda point: point.sensitivity, default=None),
    )


def known_of(predictions: Predictions, finding: int) -> Predictions:
    """One finding of those of whom it is known."""
    one = predictions.where(~np.isnan(predictions.labels[:, finding]))
    columns = slice(finding, finding + 1)
    return Predictions(one.probabilities[:, columns], one.labels[:, columns], one.patients, one.attributes)


def curve_of(one: Predictions, most: int | None = MAX_POINTS) -> list[Point]:
    """Each threshold that parts the sequences differently, from nobody called to all, at most `most` of them;
    empty where only one class is there."""
    scores, labels = one.probabilities[:, 0].astype(np.float64), one.labels[:, 0] == 1
    if not 0 < labels.sum() < len(labels):
        return []
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.r_[np.diff(scores[order]) < 0, True])
    true, called = np.cumsum(labels[order])[ends], ends + 1
    lower = np.r_[scores[order][ends[:-1] + 1], 0.0]
    thresholds = (scores[order][ends] + lower) / 2
    points = [_point(1.0 + 1e-9, 0, 0, labels)]
    points += [
        _point(t, int(hit), int(n), labels) for t, hit, n in zip(thresholds, true, called, strict=True)
    ]
    return points if most is None else _thinned(points, most)


def _thinned(points: list[Point], most: int) -> list[Point]:
    if len(points) <= most:
        return points
    kept = np.unique(np.linspace(0, len(points) - 1, most).round().astype(int))
    return [points[i] for i in kept]


def _point(threshold: float, true: int, called: int, labels: NDArray[np.bool_]) -> Point:
    n_positive, n = int(labels.sum()), len(labels)
    return Point(
        threshold=float(threshold),
        sensitivity=true / n_positive,
        specificity=1.0 - (called - true) / (n - n_positive),
        precision=true / called if called else math.nan,
    )
