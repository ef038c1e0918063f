"""A cohort of forty patients."""

import pytest

from client.imaging.cohort import Cohort
from tests.helpers.cohorts import make_cohort


@pytest.fixture
def cohort(tmp_path):
    return Cohort.open(make_cohort(tmp_path / "c", 40))
