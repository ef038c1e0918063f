"""What README and docs tell a researcher to type, typed as it stands there: simulations on a plan that is made small by
options that are documented, and every benchmark as far as its help, with nothing installed that only tests need."""

import json
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from common.config import dump_yaml
from tests.helpers.machines import commands
from tests.helpers.plans import small_scenario

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SMALL = {"rounds": 1, "training.epochs": 1, "model.width": 4, "input.size": 16, "data.patients": 24}
BENCHMARKS = sorted(
    {
        name
        for d in DOCUMENTS
        for name in re.findall(r"python (benchmarks/[a-z_/]+\.py)", d.read_text(encoding="utf-8"))
    }
)
TESTS_ONLY = ("pytest", "hypothesis", "tests", "torchmetrics", "sklearn", "SimpleITK")


def type_in(folder, line):
    """As a shell does, in `folder`; `uv run` is the environment that this test runs in."""
    line = re.sub(r"^uv run ", "", line)
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", line], cwd=folder, capture_output=True, text=True, timeout=120,
        env={"PATH": path, "HOME": str(folder), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


@pytest.mark.slow
def test_the_simulations_of_the_documents_run_as_they_stand(tmp_path):
    known = {
        c for name in ("researcher.md",) for c in commands(ROOT / "docs" / name) if "pneumofed simulate" in c
    }
    small = " ".join(f"--set {key}={value}" for key, value in SMALL.items())
    data = {"source": "phantom", "sites": 2, "patients": 24}
    (tmp_path / "my-plan.yaml").write_text(dump_yaml(small_scenario(data=data, rounds=1)))
    typed = {
        "uv run pneumofed simulate": f" {small}",
        "uv run pneumofed simulate --set rounds=20 --set seed=3": f" {small}",
        "uv run pneumofed simulate my-plan.yaml --out runs/mine --json > result.json": "",
        "uv run pneumofed simulate --out runs/mine --resume": "",
    }
    assert known == typed.keys()
    for line, more in typed.items():
        command, arrow, file = line.partition(" > ")
        type_in(tmp_path, f"{command}{more}{arrow}{file}")
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == ["mine", "quickstart", "quickstart-2"]
    assert json.loads((tmp_path / "result.json").read_text())["name"] == "small"


def test_the_phantom_of_the_documents_is_written_as_they_say(tmp_path):
    (line,) = (c for c in commands(ROOT / "docs/researcher.md") if c.startswith("pneumofed phantom"))
    said = type_in(tmp_path, f"{line} --patients 4 --sites 1")
    assert json.loads(said)["bayes"]["ordered"] > 0.9
    assert list((tmp_path / "hospitals").iterdir())


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_starts_without_what_only_tests_need(name, monkeypatch, capsys):
    for module in TESTS_ONLY:
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    monkeypatch.setattr(sys, "path", [str((ROOT / name).parent), *sys.path])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / name), run_name="__main__")
    assert end.value.code in (0, None)
    said = capsys.readouterr().out
    for document in DOCUMENTS:
        for options in re.findall(
            rf"python {name}((?: --?[a-z][\w-]*(?: \w+)?)*)", document.read_text(encoding="utf-8")
        ):
            assert {o for o in shlex.split(options) if o.startswith("--")} <= {
                *re.findall(r"--[a-z-]+", said)
            }
