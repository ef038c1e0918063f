"""The public module: the same numbers as the commands', light to import, errors in one line."""

import csv
import json
import subprocess
import sys

import pytest
import torch

import pneumofed
from tests.helpers.command import run_here

SCENARIO = {
    "name": "small", "seed": 5, "rounds": 2, "min_patients": 4, "input": {"size": 16, "max_frames": 4},
    "model": {"width": 4, "embedding": 8, "hidden": 8}, "training": {"batch_size": 4, "learning_rate": 0.05},
    "data": {"source": "phantom", "sites": 2, "patients": 40}, "simulation": {"threads": 1, "arms": ["local_only"]},
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    threads = torch.get_num_threads()
    made = pneumofed.simulate(SCENARIO, tmp_path_factory.mktemp("api") / "run")
    torch.set_num_threads(threads)
    return made


@pytest.mark.slow
def test_a_run_is_the_command_s(run):
    result = json.loads((run.folder / "metrics.json").read_text())
    assert run.result.test.federated.auroc == result["test"]["federated"]["auroc"]
    assert set(run.histories) == {"federated", "local-hospital-a", "local-hospital-b"}
    assert [report.round for report in run.histories["federated"]] == [1, 2]
    again = pneumofed.open_run(run.folder)
    assert again.result == run.result


def test_a_finished_run_is_read_and_another_is_refused(run):
    before = (run.folder / "metrics.json").stat().st_mtime_ns
    assert pneumofed.simulate(SCENARIO, run.folder).result == run.result
    assert (run.folder / "metrics.json").stat().st_mtime_ns == before
    with pytest.raises(pneumofed.PneumofedError, match="another plan"):
        pneumofed.simulate(SCENARIO, run.folder, values={"rounds": 3})


def test_values_are_checked_by_name(tmp_path):
    with pytest.raises(pneumofed.PneumofedError, match="learning_rat"):
        pneumofed.simulate(SCENARIO, tmp_path / "run", values={"training.learning_rat": 0.1})
    with pytest.raises(pneumofed.PneumofedError, match="no such file"):
        pneumofed.simulate(tmp_path / "plan.yaml", tmp_path / "other")


def test_a_model_predicts_as_the_command_does(run, tmp_path):
    model = pneumofed.open_model(run.folder)
    source = run.folder / "dicom" / "hospital-a"
    said = model.predict(source)
    done = run_here(
        "client", "predict", "--model", str(run.folder), "--input", str(source), "--out", str(tmp_path)
    )
    assert done.returncode == 0, done.stderr
    with (tmp_path / "predictions.csv").open(newline="") as file:
        rows = {r["patient"]: float(r["probability_pneumonia"]) for r in csv.DictReader(file)}
    assert {one.patient: one.probabilities[0] for one in said.predictions} == rows
    assert len(rows) >= 10
    assert not said.refused
    assert isinstance(said.left_out, dict)
    frames, lengths = torch.zeros(1, 2, 16, 16), torch.tensor([2])
    assert model.network(frames, torch.zeros(1, 2), lengths).shape == (1, 1)


def test_a_model_is_judged_on_test_patients_alone(run):
    cohort = run.folder / "cohorts" / "hospital-a"
    model = run.model()
    found = model.evaluate(cohort)
    assert found.n_training == 0
    assert found.findings["pneumonia"].auroc == run.result.sites["hospital-a"].federated.auroc
    everybody = model.evaluate(cohort, part="all", against=model)
    assert everybody.n_training > 0
    assert everybody.findings["pneumonia"].against.value == 0
    assert model.threshold is None or 0 <= model.threshold <= 1
    assert model.plan.rounds == 2


def test_what_is_no_model_or_run_is_said_in_one_line(tmp_path):
    for opened in (pneumofed.open_model, pneumofed.open_run):
        with pytest.raises(pneumofed.PneumofedError) as refused:
            opened(tmp_path)
        assert "\n" not in str(refused.value)


def test_importing_it_imports_nothing_heavy():
    heavy = ("torch", "flwr", "pydicom", "cv2", "opacus", "matplotlib", "pydantic")
    code = f"import pneumofed, sys; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_is_public_is_named():
    public = {"Model", "PneumofedError", "Predicted", "Run", "open_model", "open_run", "simulate"}
    assert set(pneumofed.__all__) == public
    assert all(getattr(pneumofed, name).__doc__ for name in public)
