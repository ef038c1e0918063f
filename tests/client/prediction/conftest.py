"""A model as it is handed over, and X-rays to ask it about."""

import shutil

import pytest

from server.export import export_run
from simulation.phantom import write_phantom
from tests.helpers.handed import PLAN
from tests.helpers.runs import deployed_run


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """Both, made once: each test has a copy."""
    place = tmp_path_factory.mktemp("made")
    export_run(deployed_run(place / "run", PLAN), place / "model", None)
    write_phantom(place / "phantom", 1, 6, 1)
    return place


@pytest.fixture
def exported(tmp_path, made):
    for name in ("run", "model"):
        shutil.copytree(made / name, tmp_path / name)
    return tmp_path / "model"


@pytest.fixture
def images(tmp_path, made):
    shutil.copytree(made / "phantom", tmp_path / "phantom")
    (folder,) = (tmp_path / "phantom").iterdir()
    return folder
