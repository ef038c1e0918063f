"""The page of an evaluation: numbers as they are, foreign names as text, pictures with a text of their
own."""

import dataclasses

import pytest

from common.report.evaluation import render_evaluation
from common.results.evaluation import Difference, EvaluationResult, FindingResult
from common.results.run import Bin, Confusion, Group, Point
from tests.helpers.browser import FINE, problems

CURVE = [
    Point(threshold=t, sensitivity=s, specificity=c, precision=p)
    for t, s, c, p in ((1.1, 0.0, 1.0, float("nan")), (0.6, 0.5, 1.0, 1.0), (0.1, 1.0, 0.0, 0.5))
]
ONE = FindingResult(
    auroc=0.876, auroc_ci=(0.8, 0.95), auprc=0.8, auprc_ci=(0.7, 0.9), brier=0.1, brier_ci=(0.05, 0.2), ece=0.05,
    ece_ci=(0.02, 0.1), threshold=0.6, threshold_from="given", accuracy=0.75, accuracy_ci=(0.6, 0.9), sensitivity=0.5,
    sensitivity_ci=(0.3, 0.7), specificity=1.0, specificity_ci=(0.9, 1.0), n_patients=40, n_positive=20, n_sequences=40,
    confusion=Confusion(threshold=0.6, true_positive=10, false_positive=0, false_negative=10, true_negative=20),
    curve=CURVE, calibration=[Bin(predicted=0.2, observed=0.3, n=40)],
    subgroups={"sex": {"F": Group(n_patients=20, auroc=0.9, auroc_ci=(0.8, 1.0))}},
    against=Difference(auroc=0.8, value=0.076, ci=(0.01, 0.14), p=0.03, advice="adopt"),
)  # fmt: skip
RESULT = EvaluationResult(
    model="small", plan_sha256="0" * 64, against="other", on="<script>x", part="test", n_patients=40, n_sequences=40,
    n_training=None, left_out={"no patient": 3}, temperature=1.0, warnings=["few"], findings={"pneumonia": ONE},
    versions={"python": "3"},
)  # fmt: skip


def test_it_says_what_was_found_and_what_is_not_known():
    page = render_evaluation(RESULT)
    for words in (
        "0.876", "0.800 – 0.950", "+0.076", "<strong>adopt</strong>", "0.030", "Whether the model was trained on any of them is not known",
        "no patient", "few", "ROC curve of pneumonia", "precision and recall of pneumonia",
    ):  # fmt: skip
        assert words in page, words
    assert "<script>" not in page
    assert page.count("<svg") == page.count('role="img"') == 3


def test_without_another_model_or_a_curve_there_is_a_page_too():
    bare = dataclasses.replace(ONE, against=None, curve=[], calibration=[], auroc=float("nan"))
    page = render_evaluation(
        dataclasses.replace(RESULT, findings={"pneumonia": bare}, against=None, warnings=[])
    )
    assert "n/a" in page
    assert "Against" not in page


@pytest.mark.slow
def test_anybody_can_read_the_page_on_a_desk_and_on_a_telephone():
    assert problems(render_evaluation(RESULT)) == FINE


@pytest.mark.slow
def test_a_finding_of_one_long_word_stays_in_its_box():
    long = "a_very_long_finding_name_that_somebody_gave_it_in_one_word"
    one = dataclasses.replace(ONE, subgroups={long: {long: ONE.subgroups["sex"]["F"]}})
    said = [f"{long}: one class only: no AUROC"]
    result = dataclasses.replace(RESULT, model=long, on=long, findings={long: one}, warnings=said)
    assert problems(render_evaluation(result)) == FINE
