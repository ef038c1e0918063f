"""Membership inference: a model that knows its patients by heart is found out, a fresh one is not."""

import numpy as np
import pytest
import torch

from client.imaging.cohort import Cohort
from client.training.local import train_round
from common import wire
from common.models import build_model
from common.plan import Split, Training
from simulation.attacks.membership import infer_membership
from tests.helpers.cohorts import make_cohort
from tests.helpers.plans import small_plan

CPU = torch.device("cpu")


def random_labels(tmp_path, plan):
    """A cohort with nothing to learn but by heart."""
    cohort = Cohort.open(make_cohort(tmp_path / "c", 120, plan=plan))
    cohort.labels = np.random.default_rng(0).integers(0, 2, cohort.labels.shape).astype(np.float32)
    return cohort


@pytest.mark.slow
def test_a_model_that_learnt_by_heart_gives_its_patients_away(tmp_path):
    plan = small_plan(
        rounds=1,
        split=Split(validation=0.0, test=0.5),
        training=Training(batch_size=8, epochs=60, learning_rate=0.05),
    )
    cohort, model = random_labels(tmp_path, plan), build_model(plan)
    fresh = infer_membership(plan, cohort, wire.get_weights(model), CPU)
    train_round(model, cohort, plan, "s", 1, CPU)
    found = infer_membership(plan, cohort, wire.get_weights(model), CPU)
    assert fresh.auroc.low < 0.5 < fresh.auroc.high
    assert found.auroc.low > 0.7
    assert found.n_members + found.n_others == 120
    assert 0.0 <= found.found_at_1_percent <= 1.0
