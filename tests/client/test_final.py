"""What a hospital tells at the end: its own scores to the last bit, cells, and no group that is too small."""

import numpy as np
import pytest

from client.final import answer_finally
from common.errors import RefusedError
from common.results.form import to_text
from common.scores import Predictions, choose_thresholds, gain, judge
from tests.helpers.plans import small_plan

PLAN = small_plan()


def predictions(n=80, seed=0, sexes=("F", "M"), positive=None):
    rng = np.random.default_rng(seed)
    labels = (np.arange(n) % 2 if positive is None else np.arange(n) < positive).astype(np.float32)
    p = 1 / (1 + np.exp(-(rng.normal(0, 1, n) + 2 * labels - 1)))
    sex = np.array([sexes[(i // 2) % len(sexes)] for i in range(n)])
    same = np.full(n, "unknown")
    attributes = {"sex": sex, "age": same, "view": same, "scanner": np.full(n, "North's own")}
    return Predictions(p[:, None], labels[:, None], np.array([f"p{i}" for i in range(n)]), attributes)


def test_its_scores_are_those_that_a_simulation_computes():
    validation, test, alone = predictions(seed=1), predictions(seed=2), predictions(seed=3)
    alone_before = predictions(seed=4)
    answer = answer_finally(PLAN, validation, test, (alone_before, alone), 10)
    judged, judged_alone = (
        judge(one, PLAN, choose_thresholds(before, PLAN))
        for one, before in ((test, validation), (alone, alone_before))
    )
    assert to_text(answer.federated) == to_text(judged)
    assert answer.gain == gain(test, alone, PLAN)
    assert to_text(answer.alone) == to_text(judged_alone)
    assert {cell.n_patients for cell in answer.cells()} == {10}
    assert set(answer.subgroups) == {
        "sex"
    }  # an attribute with one group says nothing, a scanner's name leaves never
    alone_not_asked = answer_finally(PLAN, validation, test, None, 10)
    assert (alone_not_asked.alone, alone_not_asked.gain) == (None, None)


def test_a_small_group_keeps_the_others_of_its_attribute_back():
    test = predictions(seed=2)
    test.attributes["sex"][:3] = "O"
    assert answer_finally(PLAN, predictions(seed=1), test, None, 10).subgroups == {}


def test_a_group_that_is_not_a_word_of_ours_keeps_its_attribute_back():
    test = predictions(seed=2)
    test.attributes["sex"] = np.where(np.arange(80) < 40, "F", "Jane")
    assert answer_finally(PLAN, predictions(seed=1), test, None, 10).subgroups == {}


@pytest.mark.parametrize("positive", [1, 9, 71, 79])
def test_a_small_class_is_not_told(positive):
    with pytest.raises(RefusedError, match="fewer than 10 test patients are of a class"):
        answer_finally(PLAN, predictions(seed=1), predictions(positive=positive), None, 10)


def test_few_patients_are_not_told_and_few_of_validation_leave_it_empty():
    with pytest.raises(RefusedError, match="fewer than 10"):
        answer_finally(PLAN, predictions(), predictions(n=8, positive=0), None, 10)
    answer = answer_finally(PLAN, predictions(n=12), predictions(), None, 10)
    assert list(answer.validation["pneumonia"]) == []
