import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from simulation.scores import Predictions, calibration, confusion, gain, judge
from tests.conftest import small_plan


def predictions(seed, n=80, skill=1.0, findings=1):
    rng = np.random.default_rng(seed)
    truth = np.random.default_rng(0).integers(0, 2, (n, findings)).astype(np.float32)
    scores = 1 / (1 + np.exp(-(skill * (truth - 0.5) * 2 + rng.normal(0, 1, truth.shape))))
    return Predictions(scores.astype(np.float32), truth, np.array([f"p{i // 2}" for i in range(n)]))


def test_a_verdict_names_values_with_intervals():
    plan, found = small_plan(findings=("a", "b")), predictions(1, findings=2)
    verdict = judge(found, plan, 0.5)
    each = [roc_auc_score(found.labels[:, k], found.probabilities[:, k]) for k in range(2)]
    assert verdict["auroc"] == pytest.approx(np.mean(each))
    assert [verdict["findings"][f]["auroc"] for f in "ab"] == pytest.approx(each)
    assert (verdict["n_patients"], verdict["n_sequences"]) == (40, 80)
    for name in ("auroc", "auprc", "sensitivity", "accuracy", "brier", "ece"):
        low, high = verdict[f"{name}_ci"]
        assert low <= verdict[name] <= high or name == "ece"  # a resample's ECE is larger on average


def test_a_gain_is_sure_only_where_it_is():
    plan, good, poor = small_plan(), predictions(1, skill=2.0), predictions(2, skill=0.0)
    better = gain(good, poor, plan)
    assert better["value"] == pytest.approx(judge(good, plan, 0.5)["auroc"] - judge(poor, plan, 0.5)["auroc"])
    assert better["ci"][0] > 0
    none = gain(good, good, plan)
    assert (none["value"], none["ci"]) == (0, [0, 0])
    worse = gain(poor, good, plan)
    assert worse["ci"][1] < 0


def test_confusion_and_calibration_count_every_known_patient():
    found = predictions(3)
    found.labels[5] = np.nan
    table = confusion(found, 0.4)
    assert sum(v for k, v in table.items() if k != "threshold") == 79
    called = found.probabilities[:, 0] >= 0.4
    assert table["true_positive"] == (called & (found.labels[:, 0] == 1)).sum()
    bins = calibration(found)
    assert sum(b["n"] for b in bins) == 79
    assert all(0 <= b["observed"] <= 1 for b in bins)
