"""What is released: a wheel that is the same whenever it is built, with all that the program needs, and its version."""

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("common", "client", "server", "simulation", "pneumofed", "configs")


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """The same wheel, built twice, from copies of what git knows in two folders."""
    made = []
    files = subprocess.run(
        ["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True
    ).stdout.split(b"\0")
    for name in ("one", "two"):
        folder = tmp_path_factory.mktemp(name)
        for file in filter(None, files):
            there = ROOT / file.decode()
            if there.is_file():
                (folder / file.decode()).parent.mkdir(parents=True, exist_ok=True)
                (folder / file.decode()).write_bytes(there.read_bytes())
        command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "dist")]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        made += sorted((folder / "dist").glob("*.whl"))
    return made


@pytest.mark.slow
def test_the_wheel_is_the_same_whenever_it_is_built(wheels):
    assert len(wheels) == 2
    assert len({hashlib.sha256(wheel.read_bytes()).hexdigest() for wheel in wheels}) == 1


@pytest.mark.slow
def test_everything_that_the_program_reads_is_in_it(wheels):
    with zipfile.ZipFile(wheels[0]) as wheel:
        packed = set(wheel.namelist())
    wanted = {
        str(path.relative_to(ROOT))
        for room in ROOMS
        for path in (ROOT / room).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert wanted <= packed
    assert not [name for name in packed if name.startswith(("tests/", "docs/", "benchmarks/"))]


@pytest.mark.slow
def test_the_installed_command_runs_from_anywhere_without_the_source(wheels, tmp_path):
    with zipfile.ZipFile(wheels[0]) as wheel:
        wheel.extractall(tmp_path / "site")
    code = (
        "import sys; from pathlib import Path; import pneumofed.cli, common.config, simulation.cli, simulation.scenario as s;"
        "assert Path(pneumofed.cli.__file__).is_relative_to(Path(sys.argv[1])), pneumofed.cli.__file__;"
        "print(common.config.load_yaml(simulation.cli.QUICKSTART, s.Scenario).name)"
    )
    command = [sys.executable, "-P", "-c", code, str(tmp_path / "site")]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "site"), "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "quickstart"
