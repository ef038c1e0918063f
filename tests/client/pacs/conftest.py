"""A house with a PACS, and images for it."""

from pathlib import Path

import pytest

from common.config import dump_yaml
from simulation.phantom import write_phantom
from tests.helpers.pacs import a_house
from tests.helpers.plans import small_plan


@pytest.fixture
def house(tmp_path):
    with a_house(tmp_path) as house:
        yield house


@pytest.fixture
def images(tmp_path) -> Path:
    """X-rays of 30 patients, over a hundred studies, with their labels; the plan lies beside them."""
    (folder,) = write_phantom(tmp_path / "phantom", 1, 30, 3)
    (tmp_path / "plan.yaml").write_text(dump_yaml(small_plan()))
    return folder
