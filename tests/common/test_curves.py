"""Curves against scikit-learn; each finding by its own threshold."""

import numpy as np
import pytest
from sklearn.metrics import precision_score, recall_score, roc_curve

from common.curves import MAX_POINTS, curve_of, details
from common.scores import Predictions, choose_threshold, thresholds_with_intervals
from tests.helpers.plans import small_plan


def made(n=120, skill=1.0, seed=1, decimals=None, findings=1):
    rng = np.random.default_rng(seed)
    truth = np.random.default_rng(0).integers(0, 2, (n, findings)).astype(np.float32)
    scores = 1 / (1 + np.exp(-(skill * (truth - 0.5) * 2 + rng.normal(0, 1, truth.shape))))
    scores = scores if decimals is None else scores.round(decimals)
    return Predictions(scores, truth, np.array([f"p{i}" for i in range(n)]), {})


@pytest.mark.parametrize("decimals", [None, 1])
def test_the_curve_is_scikit_learn_s(decimals):
    one = made(decimals=decimals)
    y, p = one.labels[:, 0], one.probabilities[:, 0]
    points = curve_of(one, most=None)
    false, true, _ = roc_curve(y, p, drop_intermediate=False)
    assert [1 - point.specificity for point in points] == pytest.approx(false.tolist())
    assert [point.sensitivity for point in points] == pytest.approx(true.tolist())
    for point in points[1:]:
        assert point.precision == pytest.approx(precision_score(y, p >= point.threshold))
        assert point.sensitivity == pytest.approx(recall_score(y, p >= point.threshold))
    few = curve_of(made(n=2000), most=50)
    assert len(few) <= 50
    assert (few[0].sensitivity, few[-1].sensitivity) == (0, 1)


def test_one_class_has_no_curve():
    one = made()
    assert curve_of(one.where(one.labels[:, 0] == 1)) == []


def test_each_finding_has_its_own_threshold_counts_and_curve():
    plan = small_plan(findings=("pneumonia", "effusion"), evaluation={"specificity": 0.8})
    test, validation = made(findings=2), made(seed=2, findings=2)
    test.labels[:7, 1] = np.nan
    told = details(test, thresholds_with_intervals(validation, plan, None), plan)
    assert list(told) == ["pneumonia", "effusion"]
    for k, (finding, one) in enumerate(told.items()):
        known = ~np.isnan(test.labels[:, k])
        y, p = test.labels[known, k], test.probabilities[known, k]
        c = one.confusion
        assert c.threshold == choose_threshold(validation, plan, k)
        assert (c.true_positive, c.false_negative) == (
            int((p[y == 1] >= c.threshold).sum()),
            int((p[y == 1] < c.threshold).sum()),
        )
        assert (one.n_positive, one.n_negative) == (int(y.sum()), int((1 - y).sum()))
        assert sum(b.n for b in one.calibration) == len(y)
        sensitivity = recall_score(y, p >= one.at_specificity.threshold)
        specificity = recall_score(1 - y, p < one.at_specificity.threshold)
        assert specificity >= 0.8
        assert one.at_specificity.sensitivity == pytest.approx(sensitivity)
        better = [point for point in curve_of(test.where(known), most=None) if k == 0]
        assert not [x for x in better if x.specificity >= 0.8 and x.sensitivity > sensitivity + 1e-12]
        assert finding in plan.findings
    assert told["pneumonia"].confusion.threshold != told["effusion"].confusion.threshold


def test_a_curve_in_a_report_is_short_and_one_class_leaves_it_empty():
    plan = small_plan()
    chosen = thresholds_with_intervals(made(), plan, None)
    (one,) = details(made(n=3000), chosen, plan).values()
    assert len(one.curve) <= MAX_POINTS
    single = made()
    (none,) = details(single.where(single.labels[:, 0] == 1), chosen, plan).values()
    assert none.curve == []
    assert none.at_specificity is None
