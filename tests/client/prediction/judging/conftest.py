"""A simulated run, its cohorts and its DICOM files."""

import pytest

from tests.helpers.simulated import run, scenario_of


@pytest.fixture(scope="package")
def simulated(tmp_path_factory):
    out = tmp_path_factory.mktemp("judged") / "run"
    run(scenario_of("FedAvg", split={"test": 0.3, "validation": 0.3}), out)
    return out
