"""The main job as its user runs it: the command, its files, its end by force, and rubbish for input."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors.numpy import load_file

from common.config import dump_yaml, load_yaml
from server.checkpoint import load_checkpoint
from simulation.arms import arm_plan
from simulation.scenario import PhantomData, Scenario
from tests.helpers import warm
from tests.helpers.command import refused
from tests.helpers.hospital import hospital, labels
from tests.helpers.plans import small_scenario
from tests.helpers.tools import require_data, require_tool


def without_times(result):
    return {k: v for k, v in result.items() if k not in ("timing",)}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One whole run, shared by those who only look."""
    folder = tmp_path_factory.mktemp("finished")
    scenario = small_scenario(rounds=3, data=PhantomData(sites=2, patients=24))
    (folder / "plan.yaml").write_text(dump_yaml(scenario))
    command = [*warm.command(), "simulate", "plan.yaml", "--out", "run", "--json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return folder / "run", json.loads(done.stdout)


@pytest.mark.slow
def test_the_interface_to_keep(finished):
    run, printed = finished
    result = json.loads((run / "metrics.json").read_text())
    assert printed == result
    assert 0 <= result["test"]["federated"]["auroc"] <= 1
    low, high = result["test"]["federated"]["auroc_ci"]
    assert low <= result["test"]["federated"]["auroc"] <= high
    assert 0 <= result["test"]["local_only"]["mean"]["auroc"] <= 1
    assert 0 <= result["test"]["centralised"]["auroc"] <= 1
    for site in ("hospital-a", "hospital-b"):
        assert result["sites"][site]["n_patients"] == 24
        assert set(result["sites"][site]) >= {"federated", "local_only", "gain"}
        assert "auroc" in result["sites"][site]["federated"]
    assert (result["rounds"], result["seed"], result["skipped_files"]) == (3, 5, 0)
    assert len(result["plan_sha256"]) == 64
    assert result["timing"]["total_s"] > result["timing"]["train_s"] > 0
    assert result["bytes"]["down"] > result["bytes"]["up"] > 0
    for name in ("report.html", "history.csv", "model.safetensors", "plan.yaml"):
        assert (run / name).stat().st_size > 0
    lines = (run / "history.csv").read_text().splitlines()
    assert len(lines) == 1 + 3 * (2 + 2 + 1)  # two sites federated, two alone, one centralised


@pytest.mark.slow
def test_the_mean_of_the_local_models_is_what_it_says(finished):
    _, result = finished
    values = [site["local_only"]["auroc"] for site in result["sites"].values()]
    assert result["test"]["local_only"]["mean"]["auroc"] == pytest.approx(
        np.mean([v for v in values if v is not None])
    )


@pytest.mark.slow
def test_the_same_run_twice_gives_the_same_digits(finished, here, plan, tmp_path):
    """In a process of its own, and in this one."""
    run, result = finished
    again = json.loads(here("simulate", plan, "--out", "again", "--json").stdout)
    assert without_times(again) == without_times(result)
    assert (tmp_path / "again/model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_killed_in_every_phase_and_resumed_it_ends_with_the_same_weights(finished, here, plan, tmp_path):
    run, result = finished
    rng, out, said = random.Random(0), tmp_path / "killed", tmp_path / "said"
    command = [*warm.command(), "simulate", plan, "--out", str(out)]
    phases = [
        ".dicom.building",
        "dicom",
        "cohorts/hospital-b",
        "arms/federated",
        "arms/local-hospital-a",
        "arms/centralised",
    ]
    for phase in phases:
        resume = ["--resume"] if (out / "scenario.yaml").exists() else []
        with said.open("ab") as errors:
            process = subprocess.Popen(command + resume, stdout=subprocess.DEVNULL, stderr=errors)
        until = time.monotonic() + 120
        while not (out / phase).exists() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.002)
        time.sleep(rng.uniform(0.0, 0.25))
        assert process.poll() is None, f"finished before {phase}: {said.read_text()}"
        warm.kill(process)
    resumed = json.loads(here("simulate", "--out", str(out), "--resume", "--json").stdout)
    assert without_times(resumed) == without_times(result)
    plan_of_run = load_yaml(out / "scenario.yaml", Scenario).plan
    arms = [
        load_checkpoint(folder, arm_plan(plan_of_run, folder.name, out)[0].sha256)
        for folder in (out / "arms").iterdir()
    ]
    trained = sum(report.seconds for arm in arms for report in arm.history)
    assert resumed["timing"]["total_s"] > resumed["timing"]["rounds_s"] >= trained > 0
    expected, found = load_file(run / "model.safetensors"), load_file(out / "model.safetensors")
    assert all(np.array_equal(expected[k], found[k]) for k in expected)


@pytest.mark.slow
def test_ctrl_c_leaves_a_resumable_run_and_says_how(here, plan, tmp_path):
    command = [*warm.command(), "simulate", plan, "--out", "run", "--set", "rounds=500"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    checkpoint = tmp_path / "run/arms/federated/checkpoint.safetensors"
    until = time.monotonic() + 120
    while not checkpoint.exists() and time.monotonic() < until:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "pneumofed simulate --out run --resume" in " ".join(stderr.split())
    assert "Traceback" not in stderr
    other = here("simulate", plan, "--out", "run", "--resume")
    assert other.returncode == 2
    assert "another plan" in other.stderr


def test_a_rule_that_is_gone_is_refused_before_there_are_data(here, plan, tmp_path):
    refused(
        here("simulate", plan, "--set", "evaluation.threshold=accuracy"), "accuracy is gone", "set youden"
    )
    assert not list(tmp_path.glob("runs/*/cohorts"))


@pytest.mark.slow
def test_sites_that_cannot_take_part_are_refused(here, plan):
    refused(
        here("simulate", plan, "--set", "min_patients=500"), "hospital-a: found", "the plan's minimum is 500"
    )


@pytest.mark.slow
def test_bad_cohorts_are_refused_or_counted(here, tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    hospital(root / "east", patients=24)
    hospital(root / "west", patients=24)
    scenario = small_scenario(rounds=1)
    text = (
        dump_yaml(scenario).split("data:")[0]
        + "data: {source: dicom, path: data}\nsimulation: {arms: [], threads: 1}\n"
    )
    (tmp_path / "dicom.yaml").write_text(text)
    labels(root / "east", {**{f"P{i}": i % 2 for i in range(24)}, "GHOST": 1})
    refused(here("simulate", "dicom.yaml", "--out", "a"), "1 labelled patient(s) without any image: GHOST")
    labels(root / "east", {f"P{i}": 1 for i in range(24)})
    refused(here("simulate", "dicom.yaml", "--out", "b"), "east: pneumonia: found only positive ones")
    labels(root / "east", {f"P{i}": i % 2 for i in range(20)})
    (root / "west" / "rubbish.dcm").write_bytes(os.urandom(1000))
    result = json.loads(here("simulate", "dicom.yaml", "--out", "c", "--json").stdout)
    assert result["skipped"] == {"not_dicom": 1, "unlabelled": 4}
    assert result["skipped_files"] == 1
    assert result["sites"]["east"]["n_patients"] == 20
    refused(
        here("simulate", "dicom.yaml", "--set", "data.path=nowhere"),
        "data.path: nowhere: no such file or folder",
    )
    (tmp_path / "hollow").mkdir()
    refused(here("simulate", "dicom.yaml", "--set", "data.path=hollow"), "found no folder with a labels.csv")


@pytest.mark.slow
def test_a_folder_in_use_or_taken_is_refused(finished, here, plan):
    run, _ = finished
    refused(here("simulate", plan, "--out", str(run)), "already holds a finished run")
    lock = "import fcntl,sys,time; f=open(sys.argv[1],'w'); fcntl.flock(f, fcntl.LOCK_EX); print('held',flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", lock, str(run / ".lock")], stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        refused(here("simulate", plan, "--out", str(run), "--resume"), "in use by another run")
        holder.kill()
    refused(here("simulate", "--out", "nothing-here", "--resume"), "holds no run to resume")
    refused(here("simulate", "--resume"), "found no unfinished run")
    refused(here("simulate", plan, "--out", "/dev/null/x"), "cannot be used")


@pytest.mark.slow
def test_a_finished_run_resumed_is_only_shown(finished, here):
    run, result = finished
    assert json.loads(here("simulate", "--out", str(run), "--resume", "--json").stdout) == result


@pytest.mark.slow
def test_no_space_left_is_one_line(plan, tmp_path):
    code = f"""
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
sys.argv = ["pneumofed", "simulate", {plan!r}, "--out", {str(tmp_path / "full")!r}]
from pneumofed.cli import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    refused(done, "free some space")


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["pool", "ray"])
def test_other_engines_end_with_the_same_bits(here, pneumofed, plan, tmp_path, engine):
    if engine == "ray":
        try:
            import ray  # noqa: F401
        except ImportError:
            (pytest.fail if os.environ.get("CI") else pytest.skip)("needs the ray extra: uv run --extra ray")
    arguments = [
        "--set",
        "simulation.arms=[]",
        "--set",
        "simulation.workers=2",
        "--set",
        "simulation.threads=1",
    ]
    assert here("simulate", plan, "--out", "sequential", *arguments).returncode == 0
    more = ("--set", f"simulation.engine={engine}")
    pneumofed("simulate", plan, "--out", engine, *more, *arguments, check=True)
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("sequential", engine))
    assert all(np.array_equal(one[k], two[k]) for k in one)


@pytest.mark.slow
def test_real_data_is_split_by_patient(pneumofed):
    path = require_data("pneumoniamnist", "pneumoniamnist_trainval.npz")
    config = os.path.abspath("configs/pneumoniamnist.yaml")
    quick = [
        "rounds=1",
        "training.epochs=1",
        f"data.path={path}",
        "simulation.arms=[]",
        "simulation.threads=1",
        "model.width=4",
    ]
    done = pneumofed(
        "simulate", config, "--out", "p", "--json", *[a for q in quick for a in ("--set", q)], check=True
    )
    result = json.loads(done.stdout)
    assert len(result["sites"]) == 5
    assert sum(s["n_sequences"] for s in result["sites"].values()) + result["skipped"]["no_patient"] == 5232


@pytest.mark.slow
def test_the_report_is_whole_and_readable(finished, tmp_path):
    run, result = finished
    html = (run / "report.html").read_text()
    assert "http://" not in html.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    )
    assert "<script" not in html
    assert f"{result['test']['federated']['auroc']:.3f}" in html
    chromium = require_tool("chromium")
    for width in (1280, 390):
        picture = tmp_path / f"{width}.png"
        command = [
            chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
            f"--user-data-dir={tmp_path / str(width)}", f"--window-size={width},2200", f"--screenshot={picture}", f"file://{run / 'report.html'}",
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        import cv2

        image = cv2.imread(str(picture))
        assert image.shape[1] == width
        assert image.std() > 10  # not blank
