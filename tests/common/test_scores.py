import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from common import metrics
from common.errors import ConfigError
from common.results.form import parse
from common.results.rounds import Evaluation
from common.scores import (
    Predictions,
    calibrated,
    choose_threshold,
    choose_thresholds,
    confusion,
    gain,
    judge,
    reliability,
    resamples,
    subgroups,
    thresholds_with_intervals,
)
from tests.helpers.plans import small_plan


def predictions(seed, n=80, skill=1.0, findings=1):
    rng = np.random.default_rng(seed)
    truth = np.random.default_rng(0).integers(0, 2, (n, findings)).astype(np.float32)
    scores = 1 / (1 + np.exp(-(skill * (truth - 0.5) * 2 + rng.normal(0, 1, truth.shape))))
    patients = np.array([f"p{i // 2}" for i in range(n)])
    sexes = np.array(["F" if i // 2 % 2 else "M" for i in range(n)])
    return Predictions(
        scores.astype(np.float32), truth, patients, {"sex": sexes, "view": np.full(n, "unknown")}
    )


def test_a_verdict_names_values_with_intervals():
    plan, found = small_plan(findings=("a", "b")), predictions(1, findings=2)
    verdict = judge(found, plan, (0.5,) * len(plan.findings))
    each = [roc_auc_score(found.labels[:, k], found.probabilities[:, k]) for k in range(2)]
    assert verdict.auroc == pytest.approx(np.mean(each))
    assert [verdict.findings[f].auroc for f in "ab"] == pytest.approx(each)
    assert (verdict.n_patients, verdict.n_sequences) == (40, 80)
    for name in ("auroc", "auprc", "sensitivity", "accuracy", "brier", "ece"):
        low, high = getattr(verdict, f"{name}_ci")
        assert low <= getattr(verdict, name) <= high or name == "ece"  # a resample's ECE is larger on average


def test_a_gain_is_sure_only_where_it_is():
    plan, good, poor = small_plan(), predictions(1, skill=2.0), predictions(2, skill=0.0)
    better = gain(good, poor, plan)
    assert better.value == pytest.approx(
        judge(good, plan, (0.5,) * len(plan.findings)).auroc
        - judge(poor, plan, (0.5,) * len(plan.findings)).auroc
    )
    assert better.ci[0] > 0
    none = gain(good, good, plan)
    assert (none.value, none.ci) == (0, (0, 0))
    worse = gain(poor, good, plan)
    assert worse.ci[1] < 0


def test_confusion_and_calibration_count_every_known_patient():
    found = predictions(3)
    found.labels[5] = np.nan
    table = confusion(found, 0.4)
    assert sum(v for k, v in vars(table).items() if k not in ("threshold", "threshold_ci", "chosen")) == 79
    called = found.probabilities[:, 0] >= 0.4
    assert table.true_positive == (called & (found.labels[:, 0] == 1)).sum()
    bins = reliability(found)
    assert sum(b.n for b in bins) == 79
    assert all(0 <= b.observed <= 1 for b in bins)


def test_a_threshold_that_nobody_could_choose_is_said_to_be_none():
    """Validation patients of one class, or none: counted at 0.5, which is nobody's choice."""
    plan, found = small_plan(), predictions(4)
    for validation in (found.where(found.labels[:, 0] == 1), found.where(np.zeros(80, bool))):
        thresholds = choose_thresholds(validation, plan)
        assert np.isnan(thresholds).all()
        counted = confusion(found, thresholds[0])
        assert (counted.threshold, counted.chosen) == (0.5, False)
        assert np.isnan(counted.chosen_threshold)
        assert (
            judge(found, plan, thresholds).accuracy
            == judge(found, plan, (0.5,) * len(plan.findings)).accuracy
        )
    chosen = confusion(found, choose_threshold(found, plan))
    assert (chosen.chosen, chosen.chosen_threshold) == (None, chosen.threshold)


def test_each_finding_is_called_at_its_own_threshold():
    plan = small_plan(findings=("pneumonia", "effusion"))
    one, other = predictions(1), predictions(2)
    low = other.probabilities * 0.2  # a finding whose scores are low
    both = replace(
        one, probabilities=np.hstack([one.probabilities, low]), labels=np.hstack([one.labels, other.labels])
    )
    thresholds = choose_thresholds(both, plan)
    verdict = judge(both, plan, thresholds)
    for k, finding in enumerate(plan.findings):
        counts = confusion(both, thresholds[k], k)
        right = counts.true_positive + counts.true_negative
        wrong = counts.false_positive + counts.false_negative
        assert verdict.findings[finding].accuracy == pytest.approx(right / (right + wrong))
    told = [verdict.findings[finding].accuracy for finding in plan.findings]
    assert verdict.accuracy == pytest.approx(np.mean(told))
    assert judge(both, plan, (thresholds[0],) * 2).accuracy < verdict.accuracy


def test_hospitals_that_number_their_patients_alike_have_no_patient_in_common():
    plan, found = small_plan(), predictions(3)
    together = Predictions.together([found, found])
    assert judge(together, plan, (0.5,)).n_patients == 2 * judge(found, plan, (0.5,)).n_patients


def test_delong_stands_where_sequences_are_patients():
    plan, good, poor = small_plan(), predictions(1, skill=2.0), predictions(2, skill=0.0)
    # With two sequences a patient DeLong would take them for independent.
    assert np.isnan(gain(good, poor, plan).p)
    single = [p.where(np.arange(80) % 2 == 0) for p in (good, poor)]
    assert gain(*single, plan).p < 0.05
    assert gain(single[0], single[0], plan).p == 1.0


def test_subgroups_are_judged_where_there_are_enough_of_both():
    plan, found = small_plan(), predictions(1)
    groups = subgroups(found, plan)
    assert set(groups) == {"sex"}  # of the view nothing is known
    for sex, group in groups["sex"].items():
        part = found.attributes["sex"] == sex
        assert group.n_patients == len(set(found.patients[part]))
        assert group.auroc == pytest.approx(
            roc_auc_score(found.labels[part, 0], found.probabilities[part, 0])
        )
    assert subgroups(found.where(np.arange(80) < 18), plan) == {}  # nine patients


def test_together_and_apart_are_the_same_patients():
    found = predictions(1)
    half = np.arange(80) < 40
    again = Predictions.together([found.where(half), found.where(~half)])
    assert np.array_equal(again.probabilities, found.probabilities)
    assert np.array_equal(again.attributes["sex"], found.attributes["sex"])


def at(temperature):
    nothing = {"loss": 0.0, "auroc": 0.5, "brier": 0.2, "auroc-se": 0.0, "sites": {}, "failed": {}}
    return parse(Evaluation, json.dumps({**nothing, "temperature": temperature}), "here", "nothing")


def test_calibration_changes_brier_and_no_ranking():
    plan, found = small_plan(), predictions(1, skill=3.0)
    assert calibrated(found, plan, at(1.0)).brier == pytest.approx(
        judge(found, plan, (0.5,) * len(plan.findings)).brier
    )
    assert calibrated(found, plan, None).brier == pytest.approx(
        judge(found, plan, (0.5,) * len(plan.findings)).brier
    )
    assert calibrated(found, plan, at(500.0)).brier == pytest.approx(0.25, abs=0.01)


def test_counts_and_accuracy_are_at_the_same_threshold():
    """A threshold between two float32 numbers was rounded to the lower one for the counts."""
    p = np.array([[0.1], [0.1], [0.9], [0.9]], np.float32)
    labels = np.array([[0], [0], [1], [1]], np.float32)
    found = Predictions(p, labels, np.array(list("abcd")), {})
    cut = float(np.nextafter(np.float64(p[2, 0]), 2.0))
    counts = confusion(found, cut)
    assert (counts.true_positive, counts.true_negative) == (0, 2)
    assert judge(found, small_plan(), (cut,)).accuracy == 0.5


def test_a_subgroup_s_patients_are_those_of_whom_the_finding_is_known():
    found, plan = predictions(4), small_plan()
    found.labels[::4] = np.nan
    groups = subgroups(found, plan)["sex"]
    known = ~np.isnan(found.labels[:, 0])
    for sex, group in groups.items():
        assert group.n_patients == len(set(found.patients[known & (found.attributes["sex"] == sex)]))
    found.labels[20:] = np.nan
    assert subgroups(found, plan) == {}  # five patients of each are known


def test_a_threshold_s_interval_is_that_of_thresholds_chosen_on_resamples_of_patients():
    plan = small_plan(evaluation={"bootstrap": 200})
    found = predictions(4)
    found.labels[:9] = np.nan
    (estimate,) = thresholds_with_intervals(found, plan, None)
    assert estimate.value == choose_threshold(found, plan)
    known = ~np.isnan(found.labels[:, 0])
    draws = []
    for row in resamples(found, plan).astype(int):
        p, y = (np.repeat(values[known, 0], row[known]) for values in (found.probabilities, found.labels))
        if 0 < y.sum() < len(y):
            draws.append((p, y))
    for (p, y), cut in zip(draws[:40], _draws(found, plan), strict=False):
        best = max(
            metrics.evaluate(metrics.rate_at(t, 1), p, y) + metrics.evaluate(metrics.rate_at(t, 0), p, y)
            for t in p
        )
        at = metrics.evaluate(metrics.rate_at(cut, 1), p, y) + metrics.evaluate(metrics.rate_at(cut, 0), p, y)
        assert at == pytest.approx(best)
    assert estimate.low <= estimate.value <= estimate.high
    (none,) = thresholds_with_intervals(found.where(found.labels[:, 0] == 1), plan, None)
    assert none.known_interval is None


def test_a_sensitivity_s_threshold_finds_as_many_in_every_resample():
    wanted = {"threshold": "sensitivity", "sensitivity": 0.7, "bootstrap": 200}
    plan, found = small_plan(evaluation=wanted), predictions(4)
    found.labels[:9] = np.nan
    (estimate,) = thresholds_with_intervals(found, plan, None)
    p, y = (values[9:, 0] for values in (found.probabilities, found.labels))
    assert estimate.value == choose_threshold(found, plan)
    last = float(p[(y == 1) & (p >= estimate.value)].min())  # who is the first to be lost
    for cut, enough in ((estimate.value, True), (last + 1e-6, False)):
        assert (metrics.evaluate(metrics.rate_at(cut, 1), p, y) >= 0.7) == enough
    assert estimate.low <= estimate.value <= estimate.high


def test_no_threshold_is_chosen_by_a_rule_that_is_gone():
    with pytest.raises(ConfigError, match=r"evaluation\.threshold: accuracy is gone"):
        choose_threshold(predictions(4), small_plan(evaluation={"threshold": "accuracy"}))


def _draws(found, plan):
    _, draws = metrics.macro_draws(
        metrics.youden_threshold, found.probabilities, found.labels, resamples(found, plan)
    )
    return draws
