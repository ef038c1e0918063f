"""A model's scores on labelled patients, finding by finding, with 95 % intervals by bootstrap over
patients."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from client.prediction.judging.labelled import Labelled
from client.training.evaluate import predict_logits
from common import metrics
from common.calibration import calibrate, calibrated
from common.curves import curve_of, known_of
from common.errors import DataError
from common.handover import Handed
from common.plan import Plan
from common.results.evaluation import Difference, FindingResult
from common.results.form import Interval
from common.scores import Predictions, confusion, gain, reliability, resamples, subgroups, threshold_rule


@dataclass(frozen=True)
class Threshold:
    """On the probability that `predict` writes, and where it comes from."""

    value: float
    source: str


NOBODYS = Threshold(0.5, "nobody chose one")


def predictions_of(
    handed: Handed, network: nn.Module, labelled: Labelled, device: torch.device
) -> Predictions:
    """As `predict` writes them: calibrated, where the model was."""
    cohort, indices = labelled.cohort, labelled.indices
    found = calibrated(predict_logits(network, cohort, indices, device), handed.temperature)
    attributes = {name: values[indices] for name, values in cohort.attributes.items()}
    return Predictions(found, cohort.labels[indices], cohort.patients[indices], attributes)


def own_thresholds(handed: Handed) -> dict[str, Threshold]:
    """The model's: chosen on its validation patients, before calibration; 0.5 where nobody chose one."""
    whose = "its maker's" if handed.foreign else "the model's validation patients"
    scale = ", on calibrated probabilities" if math.isfinite(handed.temperature) else ""
    chosen = dict.fromkeys(handed.plan.findings, NOBODYS)
    for finding, before in handed.thresholds.items():
        moved = float(calibrate(np.array([before]), handed.temperature)[0])
        chosen[finding] = Threshold(moved, f"{whose}{scale}")
    return chosen


def threshold_at(predictions: Predictions, finding: int, rate: float, what: str) -> Threshold:
    """The one at which `what` ("sensitivity" or "specificity") is at least `rate` and the other largest.

    Raises:
        DataError: these patients have one class only.
    """
    points = curve_of(known_of(predictions, finding), most=None)
    if not points:
        raise DataError(f"a threshold at a {what} of {rate:g} needs validation patients of both classes")
    other = "specificity" if what == "sensitivity" else "sensitivity"
    fit = [p for p in points if getattr(p, what) >= rate - 1e-12]
    best = max(fit, key=lambda p: (getattr(p, other), getattr(p, what)))
    return Threshold(best.threshold, f"a {what} of {rate:g} on the validation patients")


def chosen_here(predictions: Predictions, finding: int, plan: Plan) -> Threshold:
    """The one by the plan's rule on these validation patients; by Youden's where that rule is gone."""
    one = known_of(predictions, finding)
    is_gone = plan.evaluation.threshold == "accuracy"
    rule = metrics.youden_threshold if is_gone else threshold_rule(plan)
    chosen = metrics.evaluate(rule, one.probabilities[:, 0], one.labels[:, 0])
    if math.isnan(chosen):
        return NOBODYS
    by_rate = plan.evaluation.threshold == "sensitivity"
    said = f"a sensitivity of {plan.evaluation.sensitivity:g}" if by_rate else "Youden"
    return Threshold(chosen, f"{len(set(one.patients))} validation patients of this hospital ({said})")


def judge_finding(one: Predictions, handed: Handed, threshold: Threshold) -> FindingResult:
    """Everything about one finding; `one` holds its column alone, of those of whom it is known."""
    plan = handed.plan
    weights = resamples(one, plan)
    values: dict[str, float | Interval] = {}
    for name, metric in _metrics_at(threshold.value).items():
        estimate = metrics.macro_estimate(metric, one.probabilities, one.labels, weights)
        values |= {name: estimate.value, f"{name}_ci": estimate.interval}
    positive, negative = (set(one.patients[one.labels[:, 0] == value]) for value in (1, 0))
    return FindingResult(
        **values,  # type: ignore[arg-type]  # by name, as the type has them
        threshold=threshold.value,
        threshold_from=threshold.source,
        n_patients=len(set(one.patients)),
        n_positive=len(positive),
        n_sequences=len(one.patients),
        confusion=confusion(one, threshold.value),
        curve=curve_of(one),
        calibration=reliability(one),
        subgroups=subgroups(one, plan),
        n_changing=len(positive & negative) or None,
    )


def _metrics_at(threshold: float) -> Mapping[str, metrics.Metric]:
    return {
        "auroc": metrics.auroc, "auprc": metrics.auprc, "brier": metrics.brier, "ece": metrics.ece,
        "accuracy": metrics.accuracy_at(threshold), "sensitivity": metrics.rate_at(threshold, 1),
        "specificity": metrics.rate_at(threshold, 0),
    }  # fmt: skip


def difference(one: Predictions, other: Predictions, handed: Handed) -> Difference:
    """Of the AUROC, on the same patients.

    Raises:
        DataError: the two models did not judge the same sequences.
    """
    if not np.array_equal(one.patients, other.patients):
        raise DataError(
            f"the two models take different sequences ({len(one.patients)} and {len(other.patients)}): their "
            "input contracts differ; judge them one by one"
        )
    gained = gain(one, other, handed.plan)
    return Difference(
        auroc=metrics.evaluate(metrics.auroc, other.probabilities[:, 0], other.labels[:, 0]),
        value=gained.value, ci=gained.ci, p=gained.p, advice=gained.advice,
    )  # fmt: skip
