"""A house with a PACS, and images for it."""

import os
import subprocess
from pathlib import Path

import pytest

from common.config import dump_yaml
from simulation.phantom import write_phantom
from tests.helpers.pacs import PLUGIN, STORESCU, House
from tests.helpers.plans import small_plan
from tests.helpers.tools import require_tool


@pytest.fixture
def house(tmp_path):
    for tool in ("Orthanc", STORESCU, "ip"):
        require_tool(tool)
    assert PLUGIN.exists(), "Orthanc is here, its DICOMweb plug-in is not"
    name = f"pfh{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True, capture_output=True)
    subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True, capture_output=True)
    house = House(tmp_path, ["ip", "netns", "exec", name])
    try:
        yield house
    finally:
        for process in house.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            for pipe in (process.stdout, process.stderr):
                if pipe:
                    pipe.close()
        subprocess.run(["ip", "netns", "del", name], capture_output=True)


@pytest.fixture
def images(tmp_path) -> Path:
    """X-rays of 30 patients, over a hundred studies, with their labels; the plan lies beside them."""
    (folder,) = write_phantom(tmp_path / "phantom", 1, 30, 3)
    (tmp_path / "plan.yaml").write_text(dump_yaml(small_plan()))
    return folder
