"""A scenario of seconds, as a file."""

import pytest

from common.config import dump_yaml
from simulation.scenario import PhantomData
from tests.helpers.plans import small_scenario


@pytest.fixture
def plan(tmp_path):
    scenario = small_scenario(rounds=3, data=PhantomData(sites=2, patients=24))
    path = tmp_path / "plan.yaml"
    path.write_text(dump_yaml(scenario))
    return str(path)
