"""Judging models: the threshold comes from known labels alone, and a matrix says who is judged by whom."""

import math

import numpy as np
import pytest

from common.plan import Evaluation
from common.scores import Predictions, choose_threshold
from simulation.assess import matrix, versions
from tests.helpers.plans import small_plan


def predictions(probabilities, labels):
    patients = np.array([f"p{i}" for i in range(len(labels))])
    column = lambda values: np.array(values, np.float32)[:, None]  # noqa: E731
    return Predictions(column(probabilities), column(labels), patients, {})


@pytest.mark.parametrize("rule", ["youden", "sensitivity"])
def test_the_threshold_separates_and_unknown_labels_do_not_count(rule):
    plan = small_plan(evaluation=Evaluation(threshold=rule))
    known = predictions([0.1, 0.2, 0.7, 0.9], [0, 0, 1, 1])
    threshold = choose_threshold(known, plan)
    assert 0.2 < threshold <= 0.7
    unknown = predictions([0.1, 0.2, 0.7, 0.9, 0.99, 0.0], [0, 0, 1, 1, math.nan, math.nan])
    assert choose_threshold(unknown, plan) == threshold


def test_the_matrix_has_each_model_at_each_hospital_and_nan_where_one_class_is_missing():
    good, bad = predictions([0.1, 0.9], [0, 1]), predictions([0.9, 0.1], [0, 1])
    one_class = predictions([0.1, 0.9], [1, 1])
    found = matrix({"federated": {"north": good, "south": one_class}, "local-north": {"north": bad}})
    assert found["federated"]["north"] == 1.0
    assert math.isnan(found["federated"]["south"])
    assert found["local-north"] == {"north": 0.0}


def test_versions_name_what_decides_over_numbers():
    import torch

    assert versions()["torch"] == torch.__version__.split("+")[0]
    assert {"python", "pneumofed", "flwr", "opacus", "pydicom", "numpy"} <= versions().keys()
