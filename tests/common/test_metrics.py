"""Against torchmetrics and scikit-learn, with ties, weights as repetition, and the degenerate cases."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score
from torchmetrics.functional.classification import (
    binary_auroc,
    binary_calibration_error,
    binary_sensitivity_at_specificity,
)

from common import metrics

scored = st.lists(
    st.tuples(st.integers(0, 12), st.integers(0, 1), st.integers(0, 3)), min_size=4, max_size=40
).filter(lambda rows: len({y for _, y, w in rows if w}) == 2)


def split(rows):
    s, y, w = (np.array(column) for column in zip(*rows, strict=True))
    return s / 12, y.astype(float), w.astype(float)


def value(metric, scores, labels, weights):
    ranked = metrics.Ranked.of(scores, labels)
    return metric(ranked, weights[None, ranked.order])[0]


@pytest.mark.slow
@given(scored)
def test_a_weight_is_a_repetition_and_all_agree_with_the_references(rows):
    scores, labels, weights = split(rows)
    s, y = (np.repeat(a, weights.astype(int)) for a in (scores, labels))
    t, u = torch.tensor(s), torch.tensor(y).long()
    assert value(metrics.auroc, scores, labels, weights) == pytest.approx(roc_auc_score(y, s))
    assert value(metrics.auroc, scores, labels, weights) == pytest.approx(float(binary_auroc(t, u)), abs=1e-6)
    assert value(metrics.auprc, scores, labels, weights) == pytest.approx(average_precision_score(y, s))
    assert value(metrics.brier, scores, labels, weights) == pytest.approx(np.mean((s - y) ** 2))
    expected, _ = binary_sensitivity_at_specificity(t, u, min_specificity=0.7)
    assert value(metrics.sensitivity_at(0.7), scores, labels, weights) == pytest.approx(
        float(expected), abs=1e-6
    )
    assert value(metrics.accuracy_at(0.5), scores, labels, weights) == pytest.approx(np.mean((s >= 0.5) == y))


def test_calibration_error_agrees_with_torchmetrics():
    rng = np.random.default_rng(0)
    s, y = rng.uniform(0.01, 0.99, 500), rng.integers(0, 2, 500).astype(float)
    # torchmetrics' binary error is the top-label one of confidences >= 0.5 only if given so; on p itself it
    # bins p.
    bins = [(s > a) & (s <= a + 1 / 15) for a in np.arange(15) / 15]
    expected = sum(abs(y[b].sum() - s[b].sum()) for b in bins) / 500
    assert metrics.evaluate(metrics.ece, s, y) == pytest.approx(expected)
    assert binary_calibration_error(torch.tensor(s), torch.tensor(y).long(), n_bins=15) > 0


@pytest.mark.parametrize("metric", [metrics.auroc, metrics.sensitivity_at(0.9)])
@pytest.mark.parametrize("labels", [[1, 1, 1], [0, 0, 0]])
def test_one_class_is_undefined(metric, labels):
    assert np.isnan(metrics.evaluate(metric, np.array([0.1, 0.5, 0.9]), np.array(labels, float)))


def test_nothing_is_undefined():
    assert np.isnan(metrics.evaluate(metrics.auroc, np.zeros(0), np.zeros(0)))


def test_patients_are_drawn_with_all_their_sequences():
    weights = metrics.resample_patients(np.array([7, 7, 3, 9]), 50, np.random.default_rng(0))
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 0] + weights[:, 2] + weights[:, 3] == 3).all()


@pytest.mark.slow
def test_the_interval_covers_the_truth_as_often_as_it_says():
    # Two normals one standard deviation apart: AUROC = Phi(1 / sqrt 2) = 0.7602.
    rng, covered = np.random.default_rng(1), 0
    for _ in range(200):
        y = np.r_[np.ones(60), np.zeros(60)]
        s = rng.normal(y, 1.0)
        s = 1 / (1 + np.exp(-s))
        weights = metrics.resample_patients(np.arange(120), 300, rng)
        found = metrics.macro_estimate(metrics.auroc, s[:, None], y[:, None], weights)
        covered += found.low <= 0.7602 <= found.high
    assert 180 <= covered <= 199  # 95 % of 200 is 190; three standard deviations are 9


def test_a_calibration_error_has_no_interval():
    """The resamples of a good model lie above its value: 0.05 was said to be in 0.05 – 0.29."""
    rng = np.random.default_rng(0)
    scores = rng.random((60, 1))
    labels = (rng.random((60, 1)) < scores).astype(np.float32)
    weights = metrics.resample_patients(np.arange(60).astype(str), 200, rng)
    value, draws = metrics.macro_draws(metrics.ece, scores, labels, weights)
    assert draws.mean() > value
    found = metrics.macro_estimate(metrics.ece, scores, labels, weights)
    assert found.value == value
    assert np.isnan(found.interval).all()
    assert np.isfinite(metrics.macro_estimate(metrics.brier, scores, labels, weights).interval).all()


def test_the_macro_mean_leaves_unknown_labels_out():
    scores = np.array([[0.9, 0.2], [0.1, 0.7], [0.5, 0.6]])
    labels = np.array([[1.0, 0.0], [0.0, 1.0], [np.nan, 0.0]])
    found = metrics.macro_estimate(metrics.auroc, scores, labels, np.ones((1, 3)))
    assert found.value == pytest.approx((1.0 + 1.0) / 2)


@given(scored)
def test_youden_s_threshold_is_the_best_of_all(rows):
    scores, labels, _ = split(rows)
    if len(set(labels)) < 2:
        return

    def youden(t):
        called = scores >= t
        return called[labels == 1].mean() + (~called)[labels == 0].mean()

    best = metrics.evaluate(metrics.youden_threshold, scores, labels)
    assert youden(best) == pytest.approx(max(youden(t) for t in np.r_[scores, 2.0]))


def brute_force_delong(one, other, labels):
    """DeLong's definition: structural components by comparing every pair."""

    def components(scores):
        x, y = scores[labels == 1], scores[labels == 0]
        psi = (x[:, None] > y[None]) + 0.5 * (x[:, None] == y[None])
        return psi.mean(), psi.mean(1), psi.mean(0)

    (a, v10, v01), (b, w10, w01) = components(one), components(other)
    m, n = (labels == 1).sum(), (labels == 0).sum()
    covariance = np.cov(v10, w10) / m + np.cov(v01, w01) / n
    return a - b, np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])


@given(st.integers(0, 10**6), st.integers(6, 60))
def test_delong_is_its_definition(seed, n):
    rng = np.random.default_rng(seed)
    labels = np.r_[np.ones(2), np.zeros(2), rng.integers(0, 2, n)]
    one, other = (np.round(rng.random(len(labels)) + 0.3 * labels, 1) for _ in range(2))  # with ties
    found = metrics.delong(one, other, labels)
    difference, error = brute_force_delong(one, other, labels)
    assert found.difference == pytest.approx(difference, abs=1e-12)
    assert found.error == pytest.approx(error, abs=1e-12)
    assert 0.0 <= found.p <= 1.0
    same = metrics.delong(one, one, labels)
    assert (same.difference, same.p) == (0.0, 1.0)


def test_delong_agrees_with_the_spread_over_repeated_samples():
    rng, differences, errors = np.random.default_rng(1), [], []
    for _ in range(400):
        labels = np.r_[np.ones(60), np.zeros(60)]
        shared = rng.normal(0, 1, 120)
        one, other = (
            labels + shared + rng.normal(0, 0.5, 120),
            0.7 * labels + shared + rng.normal(0, 0.5, 120),
        )
        found = metrics.delong(one, other, labels)
        differences.append(found.difference)
        errors.append(found.error)
    assert np.mean(errors) == pytest.approx(np.std(differences), rel=0.1)
    assert np.isnan(metrics.delong(one, other, np.zeros(120)).p)


@given(scored, st.floats(0.01, 0.99) | st.sampled_from([0.5, 0.75, 1.0]))
def test_the_sensitivity_threshold_is_the_largest_that_finds_as_many(rows, wanted):
    """Weights are repetitions, and some patients are in no resample."""
    scores, labels, weights = split(rows)
    threshold = value(metrics.sensitivity_threshold(wanted), scores, labels, weights)
    s, y = (np.repeat(a, weights.astype(int)) for a in (scores, labels))

    def found(t):
        return (s[y == 1] >= t).mean()

    largest = max(t for t in s if found(t) >= wanted - 1e-12)
    assert threshold <= largest
    assert found(threshold) == found(largest) >= wanted - 1e-12
    assert not (scores[(scores >= threshold) & (scores < largest)]).size  # calls nobody else


def test_the_sensitivity_threshold_of_one_class_is_undefined():
    rule = metrics.sensitivity_threshold(0.9)
    for labels in (np.ones(3), np.zeros(3)):
        assert np.isnan(metrics.evaluate(rule, np.array([0.1, 0.5, 0.9]), labels))
        assert np.isnan(metrics.evaluate(metrics.youden_threshold, np.array([0.1, 0.5, 0.9]), labels))
