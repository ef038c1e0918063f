"""Threshold and temperature from noisy counts, against those of the patients themselves."""

import math
from dataclasses import replace

import numpy as np
import pytest

from common import calibration, metrics, soft_counts
from common.errors import WireError
from common.plan import Evaluation, Privacy
from common.results.rounds import RoundReport, history_text, parse_history
from server.card import of_deployment
from server.private_scores import checked, concluded, pool_privately
from tests.helpers.plans import small_plan

PLAN = small_plan(privacy=Privacy(epsilon=1.0, delta=1e-4, threshold=True))
NOISE = 4.0


def patients(seed, n=1500, share=0.7, gap=2.0):
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < share).astype(np.float32)
    return rng.normal(np.where(labels == 1, gap / 2 + 0.5, 0.5 - gap / 2), 1.0)[:, None], labels[:, None]


def counts_of(logits, labels):
    p = calibration.calibrated(logits, 1.0)
    return soft_counts.count(p, labels, np.arange(len(p)).astype(str))


def told(counts, noise=NOISE, seed=0):
    noisy = counts + np.random.default_rng(seed).normal(0, noise, counts.shape)
    return {**soft_counts.to_numbers(noisy, PLAN.findings), soft_counts.NOISE: noise}


def test_without_noise_they_are_those_of_the_patients():
    logits, labels = patients(1, 6000)
    found = concluded(counts_of(logits, labels), 1e-6, PLAN)
    (threshold,) = found.thresholds.values()
    p = calibration.calibrated(logits[:, 0], 1.0)

    def youden(cut):
        return sum(metrics.evaluate(metrics.rate_at(cut, c), p, labels[:, 0]) for c in (0, 1))

    best = metrics.evaluate(metrics.youden_threshold, p, labels[:, 0])
    assert youden(best) - 0.02 < youden(threshold.value) <= youden(best)
    exact = calibration.fit_temperature(calibration.losses(logits, labels))
    assert found.temperature.value == pytest.approx(exact, rel=0.1)


def test_a_wanted_sensitivity_is_that_of_the_patients():
    logits, labels = patients(1, 6000)
    plan = small_plan(privacy=PLAN.privacy, evaluation=Evaluation(threshold="sensitivity", sensitivity=0.95))
    (threshold,) = concluded(counts_of(logits, labels), 1e-6, plan).thresholds.values()
    p = calibration.calibrated(logits[:, 0], 1.0)
    assert metrics.evaluate(metrics.rate_at(threshold.value, 1), p, labels[:, 0]) == pytest.approx(
        0.95, abs=0.01
    )
    assert threshold.low < threshold.value < threshold.high


@pytest.mark.slow
def test_the_intervals_cover_noise_and_sampling():
    """Patients of the two beta distributions: a mirrored pair, which parts best at a half."""
    inside, widths = 0, []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        p = np.r_[rng.beta(2.0, 4.0, 200), rng.beta(4.0, 2.0, 400)][:, None]
        labels = np.repeat([0.0, 1.0], [200, 400])[:, None]
        counts = soft_counts.count(p, labels, np.arange(600).astype(str)) + rng.normal(0, NOISE, (1, 2, 3))
        (threshold,) = concluded(counts, NOISE, PLAN).thresholds.values()
        inside += threshold.low - 1e-9 <= 0.5 <= threshold.high + 1e-9
        widths.append(threshold.high - threshold.low)
    assert inside >= 26
    (sure,) = concluded(counts, 1e-6, PLAN).thresholds.values()
    assert np.mean(widths) > 1.2 * (sure.high - sure.low)


@pytest.mark.parametrize(
    "counts", [counts_of(*patients(2, 20)), counts_of(*patients(3, 600, gap=-2.0)), np.zeros((1, 2, 3))]
)
def test_too_few_patients_or_a_model_that_is_worse_than_chance_give_nothing(counts):
    found = concluded(counts, NOISE, PLAN)
    assert math.isnan(found.thresholds["pneumonia"].value)
    assert math.isnan(found.thresholds["pneumonia"].low)
    assert math.isnan(found.temperature.value)


def test_a_temperature_at_the_end_of_what_is_tried_is_none():
    logits, labels = patients(4, 1000, gap=6.0)
    assert math.isnan(concluded(counts_of(logits / 40.0, labels), 0.001, PLAN).temperature.value)


def test_sites_add_up_and_noise_adds_as_squares():
    parts = [counts_of(*patients(seed, 500)) for seed in (5, 6)]
    numbers = {f"site-{k}": told(part, seed=k) for k, part in enumerate(parts)}
    pooled = pool_privately(numbers, {"site-2": "refused"}, PLAN)
    sums = sum(soft_counts.from_numbers(one, PLAN.findings) for one in numbers.values())
    assert pooled.private == concluded(sums, math.hypot(NOISE, NOISE), PLAN)
    assert pooled.temperature == pooled.private.temperature.value
    assert math.isnan(pooled.auroc)
    assert pooled.failed == {"site-2": "refused"}


def test_no_site_has_more_than_its_share_and_nobody_is_an_answer_too():
    honest = {f"site-{k}": told(counts_of(*patients(k, 400)), seed=k) for k in range(3)}
    liar = told(counts_of(-patients(9, 400)[0] * 3, patients(9, 400)[1]) * 1000)
    low, high = pool_privately(honest, {}, PLAN), pool_privately({**honest, "liar": liar}, {}, PLAN)
    cap = small_plan(privacy=PLAN.privacy, federation={"max_share": 1.0})
    whole = pool_privately({**honest, "liar": liar}, {}, cap)
    assert not math.isnan(low.private.thresholds["pneumonia"].value)
    assert math.isnan(whole.private.thresholds["pneumonia"].value)
    assert math.isnan(high.temperature) or high.private != whole.private
    assert math.isnan(pool_privately({}, {"a": "refused"}, PLAN).private.thresholds["pneumonia"].value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("high-positive:pneumonia", -100.0), ("high-positive:pneumonia", math.nan), (soft_counts.NOISE, 0.0)],
)
def test_what_cannot_be_noisy_counts_is_refused(name, value):
    numbers = told(counts_of(*patients(7, 300)))
    assert checked(numbers, PLAN) == numbers
    with pytest.raises(WireError, match="found"):
        checked({**numbers, name: value}, PLAN)


def test_the_card_of_a_deployed_run_has_them_with_their_intervals():
    numbers = {f"site-{k}": told(counts_of(*patients(k, 800)), seed=k) for k in range(2)}
    judged = pool_privately(numbers, {}, PLAN)
    last = RoundReport(round=2, bytes_down=0, bytes_up=0, sites={}, failed={}, evaluation=judged)
    known = of_deployment(PLAN, parse_history(history_text([last]), "here"), None)
    (threshold,) = judged.private.thresholds.values()
    assert known["threshold"] == threshold.value
    assert known["thresholds_ci"] == {"pneumonia": (threshold.low, threshold.high)}
    assert known["temperature"] == judged.private.temperature.value
    assert known["temperature_ci"] == (judged.private.temperature.low, judged.private.temperature.high)
    drowned = replace(last, evaluation=pool_privately({}, {"a": "refused"}, PLAN))
    assert math.isnan(of_deployment(PLAN, [drowned], None)["threshold"])
    assert of_deployment(PLAN, [drowned], None)["thresholds_ci"] is None
