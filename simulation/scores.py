"""The verdict: every model judged on the same test patients, with intervals."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common import metrics
from common.plan import Plan
from common.seeds import numpy_generator


@dataclass(frozen=True)
class Predictions:
    """One model's probabilities on some patients, with what is true of them."""

    probabilities: NDArray[np.float32]  # (N, K)
    labels: NDArray[np.float32]  # (N, K), NaN where unknown
    patients: NDArray[np.str_]  # (N,) pseudonyms


def judge(predictions: Predictions, plan: Plan, threshold: float) -> dict[str, Any]:
    """Metrics with 95 % intervals: the mean over findings, and each finding by itself where there are several.

    The same patients are drawn for every model, so that models judged on the same patients can be compared.
    """
    weights = _resamples(predictions, plan)
    verdict = _scores(predictions.probabilities, predictions.labels, weights, plan, threshold)
    if len(plan.findings) > 1:
        verdict["findings"] = {
            finding: _scores(predictions.probabilities[:, [k]], predictions.labels[:, [k]], weights, plan, threshold)
            for k, finding in enumerate(plan.findings)
        }
    return {"n_patients": len(set(predictions.patients)), "n_sequences": len(predictions.patients), **verdict}


def _resamples(predictions: Predictions, plan: Plan) -> metrics.Floats:
    """The plan's resamples of these patients; the same patients give the same ones."""
    rng = numpy_generator(plan.seed, "bootstrap")
    return metrics.resample_patients(predictions.patients, plan.evaluation.bootstrap, rng)


def _scores(
    probabilities: NDArray[np.float32], labels: NDArray[np.float32], weights: metrics.Floats, plan: Plan, threshold: float
) -> dict[str, Any]:
    scores: dict[str, Any] = {}
    for name, metric in {
        "auroc": metrics.auroc,
        "auprc": metrics.auprc,
        "sensitivity": metrics.sensitivity_at(plan.evaluation.specificity),
        "accuracy": metrics.accuracy_at(threshold),
        "brier": metrics.brier,
        "ece": metrics.ece,
    }.items():
        found = metrics.macro_estimate(metric, probabilities, labels, weights)
        scores[name] = found.value
        scores[f"{name}_ci"] = [found.low, found.high]
    return scores


def gain(federated: Predictions, local: Predictions, plan: Plan) -> dict[str, Any]:
    """AUROC of the federated model minus the local one on the same patients, with the interval of the difference.

    Both are judged on each resample (a paired bootstrap), so that hard and easy patients cancel out.
    """
    assert (federated.patients == local.patients).all()
    weights = _resamples(federated, plan)
    (better, draws), (alone, draws_alone) = (
        metrics.macro_draws(metrics.auroc, p.probabilities, p.labels, weights) for p in (federated, local)
    )
    found = metrics.Estimate.of(better - alone, draws - draws_alone)
    return {"value": found.value, "ci": [found.low, found.high]}


def confusion(predictions: Predictions, threshold: float, finding: int = 0) -> dict[str, Any]:
    """Counts of one finding at a threshold; a probability equal to it counts as positive."""
    known = ~np.isnan(predictions.labels[:, finding])
    called, true = predictions.probabilities[known, finding] >= threshold, predictions.labels[known, finding] == 1
    return {
        "threshold": threshold,
        "true_positive": int((called & true).sum()), "false_positive": int((called & ~true).sum()),
        "false_negative": int((~called & true).sum()), "true_negative": int((~called & ~true).sum()),
    }  # fmt: skip


def calibration(predictions: Predictions, finding: int = 0, bins: int = 10) -> list[dict[str, float]]:
    """Reliability curve: for each equal bin of probability that is not empty, what was predicted and what was seen."""
    known = ~np.isnan(predictions.labels[:, finding])
    p, y = predictions.probabilities[known, finding].astype(np.float64), predictions.labels[known, finding]
    chosen = np.minimum((p * bins).astype(int), bins - 1)
    return [
        {"predicted": float(p[chosen == b].mean()), "observed": float(y[chosen == b].mean()), "n": int((chosen == b).sum())}
        for b in range(bins)
        if (chosen == b).any()
    ]
