"""What README and docs tell a researcher to type, typed as it stands there: simulations on a plan that is made small by
options that are documented, and every benchmark as far as its help, with nothing installed that only tests need."""

import json
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from common.config import dump_yaml
from simulation import study
from tests.helpers import warm
from tests.helpers.machines import audit_privacy, commands
from tests.helpers.plans import small_scenario
from tests.helpers.studies import SMALL as SMALL_STUDY_FILE

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


def type_in(folder, line, program=""):
    """As a shell does, in `folder`; what `uv run` makes is the environment that this test runs in. `program` stands for
    `pneumofed` (tests/helpers/warm.py); without it, that starts from nothing."""
    path, said = f"{Path(sys.executable).parent}:/usr/bin:/bin", line
    if program:
        said = f'pneumofed() {{ {program} "$@"; }}; {line}'
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", said], cwd=folder, capture_output=True, text=True, timeout=120,
        env={"PATH": path, "HOME": str(folder), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def researchers_commands():
    """What a researcher is told to type anywhere, placeholders (NAME, `…`) apart."""
    lines = dict.fromkeys(line for document in DOCUMENTS for line in commands(document))
    ours = re.compile(r"pneumofed (simulate|study|tune|audit-privacy) (?!NAME)[^|]*|pneumofed simulate")
    return {line for line in (line.removeprefix("uv run ") for line in lines) if ours.fullmatch(line)}


def small(values):
    return "".join(f" --set {key}={json.dumps(value)}" for key, value in values.items())


def npz(path, patients=80):
    """A file of the shape of PneumoniaMNIST's, of noise; a positive is brighter."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, size=(patients, 1)).astype(np.uint8)
    images = rng.integers(0, 120, size=(patients, 28, 28)).astype(np.uint8) + 100 * labels[..., None]
    parts = {
        "train": slice(0, patients - 40),
        "val": slice(patients - 40, patients - 20),
        "test": slice(patients - 20, None),
    }
    arrays = {f"{part}_{kind}": values[where] for part, where in parts.items()
              for kind, values in (("images", images.astype(np.uint8)), ("labels", labels))}  # fmt: skip
    np.savez(path, **arrays)


ONE_IMAGE = {"rounds": 1, "model.width": 4, "min_patients": 2, "data.partition.alpha": None}
SMALL_STUDY = {**SMALL, "data.patients": 20, "min_patients": 2}
SIMULATIONS = {
    "pneumofed simulate": small(SMALL),
    "pneumofed simulate --set rounds=20 --set seed=3": small(SMALL),
    "pneumofed simulate my-plan.yaml --out runs/mine --json > result.json": "",
    "pneumofed simulate --out runs/mine --resume": "",
}
OF_FILES = {
    "pneumofed simulate configs/pneumoniamnist.yaml --set data.path=pneumoniamnist.npz --set seed=SEED": small(
        ONE_IMAGE
    ),
    "pneumofed simulate configs/kermany.yaml --set data.path=kermany64_train.npz": small(ONE_IMAGE),
    "pneumofed simulate configs/pneumoniamnist-private.yaml --set data.path=pneumoniamnist.npz --set seed=SEED": small(
        {"rounds": 1, "model.width": 4, "privacy.steps": 2}
    ),
}
STUDIES = {
    "pneumofed study sequences": small({**SMALL_STUDY, "data.sites": 2}),
    "pneumofed study strategies": small(SMALL_STUDY),
    "pneumofed study hostile": small(
        {"rounds": 1, "training.epochs": 1, "model.width": 4, "min_patients": 2}
    ),
    "pneumofed study mine.yaml": "",
    "pneumofed tune configs/tuning.yaml": "",
}
ATTACKS = {" ".join(("pneumofed", *audit_privacy(where))) for where in ("runs/NAME", "DIR")}
"""Typed in tests/simulation/attacks, where the runs are."""


def test_what_a_researcher_is_told_to_type_is_typed_here():
    assert researchers_commands() == {*SIMULATIONS, *OF_FILES, *STUDIES, *ATTACKS}


@pytest.mark.slow
def test_the_simulations_of_the_documents_run_as_they_stand(tmp_path):
    data = {"source": "phantom", "sites": 2, "patients": 24}
    (tmp_path / "my-plan.yaml").write_text(dump_yaml(small_scenario(data=data, rounds=1)))
    for number, (line, more) in enumerate(SIMULATIONS.items()):
        command, arrow, file = line.partition(" > ")
        type_in(tmp_path, f"{command}{more}{arrow}{file}", shlex.join(warm.command()) if number else "")
    runs = sorted(p.name for p in (tmp_path / "runs").iterdir())
    assert runs == ["mine", "quickstart", "quickstart-2"]
    assert json.loads((tmp_path / "result.json").read_text())["name"] == "small"


@pytest.mark.slow
def test_the_studies_of_the_documents_run_on_small_values(here, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "FOLDER", tmp_path / "studies")
    study.FOLDER.mkdir()
    for path in (ROOT / "configs" / "studies").glob("*.yaml"):  # with one seed
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        (study.FOLDER / path.name).write_text(yaml.safe_dump({**values, "seeds": [1]}, sort_keys=False))
    npz(tmp_path / "pneumoniamnist.npz")
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(SMALL_STUDY_FILE))
    (tmp_path / "configs").mkdir()
    search = yaml.safe_load((ROOT / "configs/tuning.yaml").read_text())
    data = {"source": "phantom", "sites": 2, "patients": 60}  # enough for validation patients of both classes
    scenario = {**SMALL_STUDY_FILE["scenario"], "data": data}
    search |= {"scenario": scenario, "candidates": 2, "rounds": 1, "keep": 2}
    (tmp_path / "configs/tuning.yaml").write_text(yaml.safe_dump(search))
    for line, more in STUDIES.items():
        done = here(*shlex.split(line + more)[1:])
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        name = line.split()[-1].removeprefix("configs/").removesuffix(".yaml")
        folder = tmp_path / "runs" / f"{'tune' if ' tune ' in line else 'study'}-{name}"
        assert list(folder.glob("table.json")) or list(folder.glob("search.json"))


@pytest.mark.slow
def test_the_simulations_of_files_run_on_files_of_noise(here, tmp_path):
    npz(tmp_path / "pneumoniamnist.npz", 120)
    npz(tmp_path / "kermany64_train.npz", 120)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    for line, more in OF_FILES.items():
        done = here(*shlex.split(line.replace("SEED", "1") + more)[1:])
        assert done.returncode == 0, f"{line}\n{done.stderr}"
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == [
        "kermany",
        "pneumoniamnist",
        "pneumoniamnist-private",
    ]


@pytest.mark.slow
def test_the_phantom_of_the_documents_is_written_as_they_say(tmp_path):
    (line,) = (c for c in commands(ROOT / "docs/researcher.md") if c.startswith("pneumofed phantom"))
    said = type_in(tmp_path, f"{line} --patients 4 --sites 1")
    assert json.loads(said)["bayes"]["ordered"] > 0.9
    assert list((tmp_path / "hospitals").iterdir())


SHORT = {
    "server_memory.py": "--parameters 100000 --replies 3",
    "secure_aggregation.py": "--sites 3 --rounds 2 --parameters 1000",
    "quickstart_seeds.py": "--seeds 1 2" + small({**SMALL, "min_patients": 2, "data.sites": 2}),
}
"""Benchmark -> options that make it short."""


@pytest.mark.slow
@pytest.mark.parametrize("name", SHORT)
def test_a_short_benchmark_prints_what_its_head_says(name, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", [name, "--json", *shlex.split(SHORT[name])])
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(ROOT / "benchmarks" / name), run_name="__main__")
    told = json.loads(capsys.readouterr().out)
    head = (ROOT / "benchmarks" / name).read_text().split('"""')[1]
    (keys,) = re.findall(r"->\s+\{(.*?)\}", head, re.DOTALL)
    assert told.keys() >= {*re.findall(r'"(\w+)"', keys)} != set()


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
