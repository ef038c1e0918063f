import numpy as np
import pytest
import torch

from client.training.evaluate import numbers_for, predict, predict_always
from common import wire
from common.errors import RefusedError
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


def test_what_overflows_for_one_patient_alone_shows_in_no_refusal_where_that_would_tell_of_them(cohort):
    """Finite weights may be no number for a bright image alone."""
    model, indices = build_model(small_plan()), np.arange(len(cohort))
    np.testing.assert_array_equal(
        predict_always(model, cohort, indices, CPU), predict(model, cohort, indices, CPU)
    )
    with torch.no_grad():
        model.encoder.features[0].weight.fill_(3e38)
    with pytest.raises(RefusedError, match="no numbers"):
        predict(model, cohort, indices, CPU)
    assert np.isin(predict_always(model, cohort, indices, CPU), 0.5).all()
