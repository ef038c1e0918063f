"""The verdict: every model judged on the same test patients, with intervals."""

import math
from collections.abc import Iterable
from collections.abc import Sequence as Seq
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common import calibration, metrics
from common.advice import advice
from common.arrays import Reals
from common.plan import Plan, require_current
from common.results.form import Interval
from common.results.rounds import Evaluation, PrivateScores
from common.results.run import Bin, Calibrated, Confusion, Gain, Group, Scores, Verdict
from common.seeds import numpy_generator
from common.together import told_apart


@dataclass(frozen=True)
class Predictions:
    """One model's probabilities on some patients, with what is true of them."""

    probabilities: Reals  # (N, K)
    labels: NDArray[np.float32]  # (N, K), NaN where unknown
    patients: NDArray[np.str_]  # (N,) pseudonyms
    attributes: dict[str, NDArray[np.str_]]  # (N,) each: common/attributes.py

    @classmethod
    def together(cls, parts: Seq["Predictions"]) -> "Predictions":
        """Several hospitals' as one. Two hospitals that number their patients alike have no patient in
        common."""
        patients = told_apart([part.patients for part in parts])
        return cls(
            np.concatenate([part.probabilities for part in parts]),
            np.concatenate([part.labels for part in parts]),
            patients,
            {name: np.concatenate([part.attributes[name] for part in parts]) for name in parts[0].attributes},
        )

    def where(self, chosen: NDArray[np.bool_]) -> "Predictions":
        """Those of some sequences."""
        rest = {name: values[chosen] for name, values in self.attributes.items()}
        return Predictions(self.probabilities[chosen], self.labels[chosen], self.patients[chosen], rest)


def macro_auroc(predictions: Predictions) -> float:
    """The mean over findings, without an interval; NaN where only one class is there."""
    no_draws = np.zeros((0, len(predictions.patients)))
    return metrics.macro_estimate(
        metrics.auroc, predictions.probabilities, predictions.labels, no_draws
    ).value


def judge(predictions: Predictions, plan: Plan, thresholds: Seq[float]) -> Verdict:
    """Metrics with 95 % intervals: the mean over findings, and each finding by itself where there are
    several. `thresholds` are the model's own, one a finding; NaN where nobody could choose one.

    The same patients are drawn for every model, so that models judged on the same patients can be compared.
    """
    weights = resamples(predictions, plan)

    def scores(columns: list[int]) -> Scores:
        some = predictions.probabilities[:, columns], predictions.labels[:, columns]
        cuts = np.array([_or_half(thresholds[k]) for k in columns])
        return _scores(*some, weights, plan.evaluation.specificity, cuts)

    several = {f: scores([k]) for k, f in enumerate(plan.findings)} if len(plan.findings) > 1 else None
    return Verdict(
        n_patients=len(set(predictions.patients)),
        n_sequences=len(predictions.patients),
        **vars(scores(list(range(len(plan.findings))))),
        findings=several,
    )


def resamples(predictions: Predictions, plan: Plan) -> metrics.Floats:
    """The plan's resamples of these patients; the same patients give the same ones."""
    rng = numpy_generator(plan.seed, "bootstrap")
    return metrics.resample_patients(predictions.patients, plan.evaluation.bootstrap, rng)


def _scores(
    probabilities: Reals,
    labels: NDArray[np.float32],
    weights: metrics.Floats,
    specificity: float,
    cuts: NDArray[np.float64],
) -> Scores:
    values: dict[str, float | Interval] = {}
    called = metrics.called(probabilities, cuts).astype(np.float64)  # each finding at its own
    for name, metric in {
        "auroc": metrics.auroc,
        "auprc": metrics.auprc,
        "sensitivity": metrics.sensitivity_at(specificity),
        "accuracy": metrics.accuracy_at(0.5),
        "brier": metrics.brier,
        "ece": metrics.ece,
    }.items():
        of = called if name == "accuracy" else probabilities
        estimate = metrics.macro_estimate(metric, of, labels, weights)
        values |= {name: estimate.value, f"{name}_ci": estimate.interval}
    return Scores(**values)  # type: ignore[arg-type]  # by name, as the type has them


def gain(federated: Predictions, local: Predictions, plan: Plan) -> Gain:
    """AUROC of the federated model minus the local one on the same patients, with the interval of the
    difference.

    Both are judged on each resample (a paired bootstrap), so that hard and easy patients cancel out. `p` is
    DeLong's; undefined where there are several findings, or patients with several sequences, which it would
    take for independent.
    """
    assert (federated.patients == local.patients).all()
    weights = resamples(federated, plan)
    (better, draws), (alone, draws_alone) = (
        metrics.macro_draws(metrics.auroc, p.probabilities, p.labels, weights) for p in (federated, local)
    )
    estimate = metrics.Estimate.of(better - alone, draws - draws_alone)
    return Gain(
        value=estimate.value,
        ci=estimate.interval,
        p=_delong_p(federated, local),
        advice=advice(estimate.interval),
    )


def _delong_p(federated: Predictions, local: Predictions) -> float:
    if federated.labels.shape[1] > 1 or len(set(federated.patients)) < len(federated.patients):
        return math.nan
    known = ~np.isnan(federated.labels[:, 0])
    return metrics.delong(
        federated.probabilities[known, 0], local.probabilities[known, 0], federated.labels[known, 0]
    ).p


def threshold_rule(plan: Plan) -> metrics.Metric:
    """The plan's threshold; NaN without both classes. Raises ConfigError: as `require_current`."""
    require_current(plan)
    if plan.evaluation.threshold == "sensitivity":
        return metrics.sensitivity_threshold(plan.evaluation.sensitivity)
    return metrics.youden_threshold


def choose_threshold(validation: Predictions, plan: Plan, finding: int = 0) -> float:
    """The plan's on the validation patients, for one finding; NaN without both classes."""
    known = ~np.isnan(validation.labels[:, finding])
    some = validation.probabilities[known, finding], validation.labels[known, finding]
    return metrics.evaluate(threshold_rule(plan), *some)


def thresholds_with_intervals(
    validation: Predictions, plan: Plan, private: PrivateScores | None
) -> tuple[metrics.Estimate, ...]:
    """Of each finding, with the interval of the plan's resamples of validation patients; or `private`, where
    the sites told noisy counts, whatever the patients of a simulation would have said without noise."""
    if private is not None:
        return tuple(private.thresholds[finding] for finding in plan.findings)
    weights, rule = resamples(validation, plan), threshold_rule(plan)
    columns = [slice(k, k + 1) for k in range(len(plan.findings))]
    return tuple(
        metrics.macro_estimate(rule, validation.probabilities[:, k], validation.labels[:, k], weights)
        for k in columns
    )


def choose_thresholds(validation: Predictions, plan: Plan) -> tuple[float, ...]:
    """`choose_threshold` of each finding."""
    return tuple(choose_threshold(validation, plan, k) for k in range(len(plan.findings)))


def _or_half(threshold: float) -> float:
    return 0.5 if math.isnan(threshold) else threshold


def mean_auroc(verdicts: Iterable[Verdict]) -> float:
    """Mean over the hospitals in which it is defined (both classes among the test patients)."""
    values = [verdict.auroc for verdict in verdicts if math.isfinite(verdict.auroc)]
    return float(np.mean(values)) if values else math.nan


def subgroups(predictions: Predictions, plan: Plan) -> dict[str, dict[str, Group]]:
    """Attribute -> group -> AUROC with its interval and the number of patients.

    Groups with fewer than MIN_IN_GROUP patients of whom the finding is known (each that has both classes,
    where there are several), or one class, are left out, and attributes with fewer than two
    such groups.
    """
    by_attribute = {
        name: {
            group: judged
            for group in sorted(set(values.tolist()) - {"unknown"})
            if (judged := _group(predictions.where(values == group), plan))
        }
        for name, values in predictions.attributes.items()
    }
    return {name: groups for name, groups in by_attribute.items() if len(groups) > 1}


MIN_IN_GROUP = 10


def _group(part: Predictions, plan: Plan) -> Group | None:
    known = ~np.isnan(part.labels)
    judged = [k for k in range(known.shape[1]) if len(np.unique(part.labels[known[:, k], k])) > 1]
    n_patients = min((len(set(part.patients[known[:, k]])) for k in judged), default=0)
    estimate = metrics.macro_estimate(metrics.auroc, part.probabilities, part.labels, resamples(part, plan))
    if n_patients < MIN_IN_GROUP or not math.isfinite(estimate.value):
        return None
    return Group(n_patients=n_patients, auroc=estimate.value, auroc_ci=estimate.interval)


def calibrated(predictions: Predictions, plan: Plan, evaluation: Evaluation | None) -> Calibrated:
    """Brier score and calibration error after scaling by the temperature of an evaluation
    (common/calibration.py); it changes no ranking."""
    temperature = evaluation.temperature if evaluation else math.nan
    private = evaluation.private if evaluation else None
    scaled = calibration.calibrate(predictions.probabilities, temperature)
    weights = resamples(predictions, plan)
    brier, ece = (
        metrics.macro_estimate(m, scaled, predictions.labels, weights) for m in (metrics.brier, metrics.ece)
    )
    return Calibrated(
        temperature=temperature,
        temperature_ci=private.temperature.known_interval if private else None,
        brier=brier.value,
        brier_ci=brier.interval,
        ece=ece.value,
        ece_ci=ece.interval,
    )


def confusion(
    predictions: Predictions, threshold: float, finding: int = 0, interval: Interval | None = None
) -> Confusion:
    """Counts of one finding at a threshold (NaN: nobody chose one; at 0.5), which has this interval; a
    probability equal to it counts as positive."""
    known = ~np.isnan(predictions.labels[:, finding])
    cut = _or_half(threshold)
    called = metrics.called(predictions.probabilities[known, finding], cut)
    true = predictions.labels[known, finding] == 1
    return Confusion(
        threshold=cut,
        threshold_ci=interval,
        chosen=False if math.isnan(threshold) else None,
        true_positive=int((called & true).sum()),
        false_positive=int((called & ~true).sum()),
        false_negative=int((~called & true).sum()),
        true_negative=int((~called & ~true).sum()),
    )


def reliability(predictions: Predictions, finding: int = 0, bins: int = 10) -> list[Bin]:
    """Reliability curve: for each equal bin of probability that is not empty, what was predicted and what was
    seen."""
    known = ~np.isnan(predictions.labels[:, finding])
    p, y = predictions.probabilities[known, finding].astype(np.float64), predictions.labels[known, finding]
    places = np.minimum((p * bins).astype(int), bins - 1)
    chosen = [places == b for b in range(bins)]
    return [
        Bin(predicted=float(p[c].mean()), observed=float(y[c].mean()), n=int(c.sum()))
        for c in chosen
        if c.any()
    ]
