import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from common.calibration import NUMBERS, TEMPERATURES, calibrate, calibrated, fit_temperature, loss_at, losses


def sample(seed, temperature, n=4000):
    rng = np.random.default_rng(seed)
    truth = rng.normal(0, 2, (n, 1))
    labels = (rng.random((n, 1)) < 1 / (1 + np.exp(-truth))).astype(np.float32)
    return truth * temperature, labels  # overconfident by `temperature`


def exact(logits, labels):
    def loss(log_t):
        z = logits / np.exp(log_t)
        return (np.logaddexp(0, z) - labels * z).mean()

    return float(np.exp(minimize_scalar(loss, bounds=(-2, 3), method="bounded", options={"xatol": 1e-8}).x))


@given(st.integers(0, 10**6), st.floats(0.4, 8.0))
def test_the_fit_is_within_one_percent_of_an_exact_one(seed, temperature):
    logits, labels = sample(seed, temperature, 500)
    best = exact(logits, labels)
    if TEMPERATURES[1] < best < TEMPERATURES[-2]:
        assert fit_temperature(losses(logits, labels)) == pytest.approx(best, rel=0.01)


def test_pooling_losses_by_patients_is_fitting_on_everybody():
    logits, labels = sample(3, 2.5)
    parts = [(0, 700), (700, 1500), (1500, 4000)]
    each = [losses(logits[a:b], labels[a:b]) for a, b in parts]
    pooled = {
        name: sum((b - a) * one[name] for (a, b), one in zip(parts, each, strict=True)) / 4000
        for name in NUMBERS
    }
    assert fit_temperature(pooled) == pytest.approx(fit_temperature(losses(logits, labels)), rel=1e-9)
    assert fit_temperature(pooled) == pytest.approx(2.5, rel=0.1)


def test_scaling_mends_calibration_and_keeps_the_order():
    logits, labels = sample(4, 3.0)
    p = 1 / (1 + np.exp(-logits))
    scaled = calibrate(p, fit_temperature(losses(logits, labels)))
    assert np.mean((scaled - labels) ** 2) < np.mean((p - labels) ** 2) - 0.01
    assert (np.argsort(scaled[:, 0], kind="stable") == np.argsort(p[:, 0], kind="stable")).mean() > 0.99
    assert calibrate(np.array([0.0, 0.5, 1.0]), 2.0).tolist() == [0.0, 0.5, 1.0]
    assert calibrate(np.array([0.3]), float("nan")).tolist() == [0.3]


def test_unknown_labels_do_not_count():
    logits, labels = sample(5, 1.0, 50)
    some = labels.copy()
    some[::2] = np.nan
    assert losses(logits, some) == losses(logits[1::2], labels[1::2])
    nobody = losses(logits, np.full_like(labels, np.nan))
    assert np.isnan(list(nobody.values())).all()
    assert np.isnan(fit_temperature(nobody))
    assert losses(np.array([[2.0]]), np.array([[1.0]]))[loss_at(1.0)] == pytest.approx(np.log1p(np.exp(-2)))


@pytest.mark.parametrize("temperature", [0.25, 1.0, 8.0, 16.0, float("nan")])
def test_a_logit_is_calibrated_however_far_it_is(temperature):
    z = np.array([-80.0, -17.0, 0.0, 15.0, 17.0, 18.0, 80.0], np.float32)
    found = calibrated(z, temperature)
    t = 1.0 if np.isnan(temperature) else temperature
    assert found == pytest.approx([1.0 / (1.0 + math.exp(-float(one) / t)) for one in z], rel=1e-12)
    assert found[:3] == pytest.approx(1.0 - calibrated(-z, temperature)[:3], rel=1e-9)
