"""What a hospital asks, what it gets, and what it is warned of."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client.prediction.cases import Refusal
from client.prediction.predict import _predictions
from client.prediction.prevalence import asked, for_prevalence
from common.calibration import calibrated
from common.errors import ConfigError, DataError
from common.handover import Handed
from common.plan import Evaluation
from common.results.card import read_card, write_card
from common.results.run import Bin
from tests.helpers.command import refused
from tests.helpers.handed import PLAN

PLAIN = PLAN.model_copy(update={"evaluation": Evaluation(bootstrap=100)})
BINS = {"pneumonia": [Bin(predicted=0.2, observed=0.2, n=400), Bin(predicted=0.7, observed=0.7, n=400)]}


def handed(**changes):
    values = {"temperature": 1.0, "thresholds": {"pneumonia": 0.6}, "calibration": BINS, **changes}
    plan = values.pop("plan", PLAIN)
    return Handed(Path("model"), plan, {}, "", values.pop("temperature"), values.pop("thresholds"), **values)


def rows_of(model, logits, part="unknown"):
    found = [(f"p{i}", part, 2, "") for i in range(len(logits))]
    return _predictions(model, found, np.asarray(logits, np.float32).reshape(len(logits), -1))


def logits_at(share, n=400, seed=0, gap=2.5):
    """Of normal scores of two classes; exact for the model's own prevalence, 0.45."""
    rng = np.random.default_rng(seed)
    labels = rng.random(n) < share
    x = rng.normal(gap * labels, 1.0)
    return gap * x - gap**2 / 2 + math.log(0.45 / 0.55), labels


@pytest.mark.parametrize("temperature", [1.0, 1.7])
@pytest.mark.parametrize("wish", ["0.08", "estimate"])
def test_probabilities_move_and_calls_stay(temperature, wish):
    model = handed(temperature=temperature)
    logits, _ = logits_at(0.1)
    before = rows_of(model, logits * temperature)
    refusal = Refusal("z", "too few")
    (*after, last), shifts = for_prevalence(model, [*before, refusal], asked([wish], model))
    assert last is refusal
    (shift,) = shifts.values()
    assert shift.asked.reference.prevalence == pytest.approx(0.45)
    assert [row.calls for row in after] == [row.calls for row in before]
    p = np.array([row.probabilities[0] for row in after])
    expected = calibrated(logits + math.log(shift.now / (1 - shift.now) / (0.45 / 0.55)), 1.0)
    np.testing.assert_allclose(p, expected, atol=2e-5)
    far = np.abs(p - shift.threshold) > 1e-4
    assert (np.array([row.called for row in after]) == (p >= shift.threshold))[far].all()
    assert {row.prevalences for row in after} == {(shift.now,)}
    assert after[0].columns(("pneumonia",))["prevalence_pneumonia"] == shift.now
    assert after[0].uncertainties[0] == pytest.approx(
        -p[0] * np.log2(p[0]) - (1 - p[0]) * np.log2(1 - p[0]), abs=1e-3
    )


def test_a_shift_is_found_and_probabilities_fit_the_patients():
    model = handed()
    logits, labels = logits_at(0.1)
    after, shifts = for_prevalence(model, rows_of(model, logits), asked(["estimate"], model))
    found = shifts["pneumonia"].found.estimate
    assert found.low <= 0.1 <= found.high
    assert not shifts["pneumonia"].doubts
    p = np.array([row.probabilities[0] for row in after])
    assert p.mean() == pytest.approx(labels.mean(), abs=0.03)
    assert np.mean((p - labels) ** 2) < np.mean((calibrated(logits, 1.0) - labels) ** 2)


def test_without_a_wish_and_at_the_model_s_own_nothing_moves():
    model = handed()
    rows = rows_of(model, logits_at(0.3)[0])
    after, _ = for_prevalence(model, rows, asked(["0.45"], model))
    assert [row.probabilities for row in after] == [row.probabilities for row in rows]
    untouched, shifts = for_prevalence(model, rows, asked([], model))
    assert untouched[0].columns(("pneumonia",)) == rows[0].columns(("pneumonia",))
    assert shifts == {}


def test_training_patients_are_not_estimated_on():
    model = handed()
    learned, others = rows_of(model, np.full(300, 9.0), "train"), rows_of(model, logits_at(0.1)[0], "test")
    (alone, both) = (
        for_prevalence(model, rows, asked(["estimate"], model))[1]["pneumonia"]
        for rows in (others, others + learned)
    )
    assert alone.found == both.found
    with pytest.raises(DataError, match="all 300 sequences are training patients"):
        for_prevalence(model, learned, asked(["estimate"], model))


@pytest.mark.parametrize(
    ("changes", "logits", "said"),
    [
        ({"temperature": math.nan}, logits_at(0.2)[0], "not calibrated"),
        ({"calibration": {"pneumonia": [Bin(predicted=0.7, observed=0.4, n=99)]}}, logits_at(0.2)[0], "goes along"),
        ({"plan": PLAN.model_copy(update={"evaluation": Evaluation(threshold="accuracy", bootstrap=100)})},
         logits_at(0.2)[0], "fewest errors"),
        ({}, logits_at(0.2, n=49)[0], "49 patients: too few"),
        ({}, logits_at(0.45, n=60)[0] / 5 + 0.1, "the estimate may as well be "),
        ({}, np.full(99, math.log(0.45 / 0.55)), "does not tell these patients apart"),
        ({}, np.full(99, -5.0), "none of them have it"),
        ({}, np.full(99, 5.0), "all of them have it"),
    ],
)  # fmt: skip
def test_what_should_be_doubted_is_said(changes, logits, said):
    model = handed(**changes)
    after, shifts = for_prevalence(model, before := rows_of(model, logits), asked(["estimate"], model))
    assert any(said in doubt for doubt in shifts["pneumonia"].doubts)
    if shifts["pneumonia"].now is None:
        assert [row.probabilities for row in after] == [row.probabilities for row in before]
        assert "prevalence_pneumonia" not in after[0].columns(("pneumonia",))
        assert shifts["pneumonia"].threshold == pytest.approx(0.6)
        assert any("left as they were" in doubt for doubt in shifts["pneumonia"].doubts)


def test_each_finding_is_corrected_for_its_own_prevalence():
    plan = PLAIN.model_copy(update={"findings": ("pneumonia", "effusion")})
    model = handed(plan=plan, calibration={**BINS, "effusion": BINS["pneumonia"]})
    rows = rows_of(model, np.zeros((3, 2)))
    after, shifts = for_prevalence(model, rows, asked(["effusion=0.05"], model))
    assert after[0].probabilities == (0.5, pytest.approx(0.05 / 0.45 / (0.05 / 0.45 + 0.95 / 0.55), abs=1e-5))
    assert after[0].prevalences == (None, 0.05)
    assert shifts["effusion"].threshold is None
    assert list(asked(["estimate"], model)) == ["pneumonia", "effusion"]
    for texts in (["0.1"], ["nodule=0.1"], ["estimate", "effusion=0.1"], ["effusion=0.1", "effusion=0.2"]):
        with pytest.raises(ConfigError, match="the model has pneumonia, effusion"):
            asked(texts, model)


@pytest.mark.parametrize("text", ["0", "1", "-0.1", "nan", "many", "", "50%"])
def test_what_is_no_share_is_refused(text):
    with pytest.raises(ConfigError, match="above 0 and below 1, or estimate"):
        asked([text], handed())


@pytest.mark.parametrize("bins", [{}, {"pneumonia": [Bin(predicted=0.3, observed=0.0, n=20)]}])
def test_a_model_that_does_not_tell_its_own_prevalence_is_refused(bins):
    with pytest.raises(ConfigError, match="does not tell how frequent pneumonia was"):
        asked(["estimate"], handed(calibration=bins))


def test_the_command_writes_what_it_corrected(here, tmp_path, exported, images):
    ask = ("client", "predict", "--model", "model", "--input", str(images))
    refused(here(*ask, "--out", "a", "--prevalence", "0.1"), "does not tell how frequent pneumonia was")
    assert not (tmp_path / "a").exists()
    write_card(exported, replace(read_card(exported), calibration=BINS, threshold=0.6))
    assert here(*ask, "--out", "a").returncode == 0
    done = here(*ask, "--out", "b", "--prevalence", "0.1")
    assert "probabilities are for a prevalence of 0.100, given; 0.450 among" in done.stdout
    assert "the same patients as before" in done.stdout
    plain, moved = (json.loads((tmp_path / name / "predictions.json").read_text()) for name in "ab")
    assert "prevalence" not in plain
    assert moved["prevalence"]["pneumonia"]["now"] == 0.1
    for one, other in zip(plain["predictions"], moved["predictions"], strict=True):
        assert other["probability_pneumonia"] < one["probability_pneumonia"]
        assert other["called_pneumonia"] == one["called_pneumonia"]
        assert other["prevalence_pneumonia"] == 0.1
    estimate = here(*ask, "--out", "c", "--prevalence", "estimate")
    assert "of 6 patients, estimated" in estimate.stdout
    assert "6 patients: too few" in estimate.stdout
