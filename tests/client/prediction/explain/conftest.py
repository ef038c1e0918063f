"""A small model, untrained."""

import pytest

from common.models import build_model
from common.plan import Model
from tests.helpers.plans import small_plan


@pytest.fixture
def model():
    return build_model(small_plan(model=Model(width=8, embedding=16, hidden=16))).eval()
