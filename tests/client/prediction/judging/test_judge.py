"""Numbers against scikit-learn and by hand; thresholds on the probability that `predict` writes."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    recall_score,
    roc_auc_score,
)

from client.prediction.judging.judge import (
    Threshold,
    chosen_here,
    difference,
    judge_finding,
    own_thresholds,
    threshold_at,
)
from common.curves import known_of
from common.errors import DataError
from common.scores import Predictions
from tests.helpers.plans import small_plan


def handed(threshold=None, temperature=float("nan")):
    from pathlib import Path

    from common.handover import Handed

    thresholds = {} if threshold is None else {"pneumonia": threshold}
    return Handed(Path(), small_plan(), {}, "", temperature, thresholds)


def made(n=120, skill=1.0, seed=1, decimals=None):
    rng = np.random.default_rng(seed)
    truth = np.random.default_rng(0).integers(0, 2, (n, 1)).astype(np.float32)
    scores = 1 / (1 + np.exp(-(skill * (truth - 0.5) * 2 + rng.normal(0, 1, truth.shape))))
    scores = scores if decimals is None else scores.round(decimals)
    patients = np.array([f"p{i}" for i in range(n)])
    return Predictions(scores, truth, patients, {"sex": np.array(["F", "M"] * (n // 2))})


@pytest.mark.parametrize("decimals", [None, 1])
def test_every_number_is_scikit_learn_s(decimals):
    one = made(decimals=decimals)
    found = judge_finding(one, handed(), Threshold(0.45, "given"))
    y, p = one.labels[:, 0], one.probabilities[:, 0]
    assert found.auroc == pytest.approx(roc_auc_score(y, p))
    assert found.auprc == pytest.approx(average_precision_score(y, p))
    assert found.brier == pytest.approx(brier_score_loss(y, p))
    assert found.sensitivity == pytest.approx(recall_score(y, p >= 0.45))
    assert found.specificity == pytest.approx(recall_score(1 - y, p < 0.45))
    assert found.accuracy == pytest.approx(np.mean((p >= 0.45) == y))
    for name in ("auroc", "auprc", "brier", "sensitivity", "specificity", "accuracy"):
        low, high = getattr(found, f"{name}_ci")
        assert low <= getattr(found, name) <= high
    assert (found.n_patients, found.n_positive, found.n_sequences) == (120, int(y.sum()), 120)
    assert sorted(found.subgroups) == ["sex"]


def test_a_patient_who_changes_is_in_both_classes():
    one = made()
    of_four = replace(one, patients=np.array([f"p{i % 4}" for i in range(len(one.patients))]))
    found = judge_finding(of_four, handed(), Threshold(0.5, "given"))
    assert (found.n_patients, found.n_positive, found.n_changing, found.fewer) == (4, 4, 4, 4)
    assert found.who == "4 of 4 patients have it, 4 of them not at each visit"
    alone = judge_finding(one, handed(), Threshold(0.5, "given"))
    assert (alone.n_changing, alone.fewer) == (None, min(alone.n_positive, 120 - alone.n_positive))


def test_one_class_has_no_curve_and_no_auroc():
    one = made()
    one = one.where(one.labels[:, 0] == 1)
    found = judge_finding(one, handed(), Threshold(0.5, "given"))
    assert np.isnan(found.auroc)
    assert np.isnan(found.specificity)
    assert found.sensitivity > 0


@pytest.mark.parametrize("what", ["sensitivity", "specificity"])
@pytest.mark.parametrize("rate", [0.5, 0.9, 1.0])
def test_a_threshold_at_a_rate_is_the_best_that_keeps_it(what, rate):
    one = made()
    y, p = one.labels[:, 0] == 1, one.probabilities[:, 0]
    chosen = threshold_at(one, 0, rate, what).value

    def rates(t):
        return {"sensitivity": (p[y] >= t).mean(), "specificity": (p[~y] < t).mean()}

    other = "specificity" if what == "sensitivity" else "sensitivity"
    assert rates(chosen)[what] >= rate
    candidates = [t for t in np.r_[0, np.sort(p) + 1e-9, 2] if rates(t)[what] >= rate]
    assert rates(chosen)[other] == max(rates(t)[other] for t in candidates)


@pytest.mark.parametrize(
    ("evaluation", "said"),
    [
        ({"threshold": "sensitivity", "sensitivity": 0.95}, "a sensitivity of 0.95"),
        ({}, "Youden"),
        ({"threshold": "accuracy"}, "Youden"),
    ],
)
def test_a_hospital_s_own_threshold_is_chosen_by_the_plan_s_rule(evaluation, said):
    one = made()
    y, p = one.labels[:, 0] == 1, one.probabilities[:, 0]
    found = chosen_here(one, 0, small_plan(evaluation=evaluation))
    sensitivity, specificity = (p[y] >= found.value).mean(), (p[~y] < found.value).mean()
    assert found.source == f"120 validation patients of this hospital ({said})"
    if said == "Youden":
        best = max((p[y] >= t).mean() + (p[~y] < t).mean() for t in p)
        assert sensitivity + specificity == pytest.approx(best)
    else:
        assert sensitivity >= 0.95 > (p[y] > p[p >= found.value].min()).mean()


def test_a_threshold_needs_both_classes():
    one = made()
    with pytest.raises(DataError, match="needs validation patients of both classes"):
        threshold_at(one.where(one.labels[:, 0] == 0), 0, 0.9, "sensitivity")


def test_the_model_s_threshold_moves_with_its_calibration():
    chosen = own_thresholds(handed(0.7, 2.0))["pneumonia"]
    assert chosen.value == pytest.approx(1 / (1 + np.exp(-np.log(0.7 / 0.3) / 2)))
    assert own_thresholds(handed(0.7))["pneumonia"].value == 0.7
    assert own_thresholds(handed())["pneumonia"].source == "nobody chose one"


def test_each_finding_has_its_own_threshold_and_none_another_s():
    plan = small_plan(findings=("pneumonia", "effusion", "nodule"))
    several = replace(handed(), plan=plan, thresholds={"pneumonia": 0.7, "effusion": 0.2})
    chosen = own_thresholds(several)
    assert [one.value for one in chosen.values()] == [0.7, 0.2, 0.5]
    assert chosen["effusion"].source == "the model's validation patients"
    assert chosen["nodule"].source == "nobody chose one"


def test_unknown_labels_do_not_count():
    one = made()
    one.labels[:7] = np.nan
    assert len(known_of(one, 0).patients) == 113


def test_a_difference_is_that_of_the_same_patients():
    good, poor = made(skill=2.0), made(skill=0.5, seed=2)
    found = difference(good, poor, handed())
    y = good.labels[:, 0]
    aurocs = [roc_auc_score(y, one.probabilities[:, 0]) for one in (good, poor)]
    assert found.value == pytest.approx(aurocs[0] - aurocs[1])
    assert found.auroc == pytest.approx(aurocs[1])
    assert found.ci[0] > 0
    assert found.p < 0.05
    none = difference(good, good, handed())
    assert (none.value, none.ci) == (0, (0, 0))
    with pytest.raises(DataError, match="take different sequences"):
        difference(good, poor.where(np.arange(120) > 3), handed())
