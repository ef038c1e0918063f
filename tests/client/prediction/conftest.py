"""A model as it is handed over, and X-rays to ask it about."""

import pytest

from server.export import export_run
from simulation.phantom import write_phantom
from tests.helpers.handed import PLAN
from tests.helpers.runs import deployed_run


@pytest.fixture
def exported(tmp_path):
    return export_run(deployed_run(tmp_path / "run", PLAN), tmp_path / "model", None)


@pytest.fixture
def images(tmp_path):
    (folder,) = write_phantom(tmp_path / "phantom", 1, 6, 1)
    return folder
