import numpy as np

from client.training.evaluate import numbers_for, predict
from common import wire
from common.models import build_model
from tests.helpers.cohorts import CPU
from tests.helpers.plans import small_plan


def test_predictions_do_not_depend_on_the_batch(cohort):
    plan = small_plan()
    model = build_model(plan)
    indices = np.arange(len(cohort))
    together = predict(model, cohort, indices, CPU)
    alone = np.concatenate([predict(model, cohort, indices[i : i + 1], CPU) for i in indices])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    assert set(numbers_for(cohort, indices, together, plan)) == set(wire.EVALUATE_NUMBERS)
