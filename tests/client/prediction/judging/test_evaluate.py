"""`pneumofed evaluate` as its user meets it: the report's own numbers again, and bad input in one line."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from client.prediction.judging.evaluate import Wish, evaluate
from client.prediction.judging.labelled import Place
from common.errors import DataError
from common.handover import read_model
from common.results.run import read_result
from tests.helpers.command import refused
from tests.helpers.simulated import run, scenario_of

KEYS = {
    "auroc", "auroc_ci", "auprc", "brier", "ece", "accuracy", "threshold", "sensitivity", "specificity", "n_patients",
    "n_positive",
}  # fmt: skip


def judged(here, *args):
    done = here("evaluate", *map(str, args), "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def site_of(run, kind="cohorts"):
    (site,) = sorted((run / kind).glob("*-a"))
    return site


@pytest.mark.slow
def test_a_site_s_numbers_are_those_of_the_report(here, simulated):
    site = site_of(simulated)
    found = judged(here, simulated, "--on", site)
    report = read_result(simulated).sites[site.name]
    one = found["findings"]["pneumonia"]
    assert one.keys() >= KEYS
    assert one["auroc"] == report.federated.auroc
    assert one["auroc_ci"] == list(report.federated.auroc_ci)
    assert one["accuracy"] == report.federated.accuracy  # at the same threshold, before and after calibration
    assert one["n_patients"] == found["n_patients"] == report.split["test"]
    straight = judged(here, simulated, "--on", site_of(simulated, "dicom"))
    assert straight["findings"] == found["findings"]


@pytest.mark.slow
def test_a_page_and_a_file_are_written_and_a_terminal_reads_the_same(here, simulated, tmp_path):
    done = here("evaluate", str(simulated), "--on", str(site_of(simulated)), "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    saved = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert f"auroc        {saved['findings']['pneumonia']['auroc']:.3f}" in done.stdout
    assert "Research use, not a medical device." in done.stdout
    page = (tmp_path / "out" / "evaluation.html").read_text()
    assert "None of them is a training patient of this run" in page
    assert "src=" not in page.replace('src="data:', "")


@pytest.mark.slow
def test_a_second_model_is_compared_on_the_same_patients(here, simulated, tmp_path):
    other = tmp_path / "other"
    run(scenario_of("FedAvg", seed=6, split={"test": 0.3, "validation": 0.3}), other)
    site = site_of(simulated)
    whole = judged(here, simulated, "--on", site, "--part", "all", "--against", other)
    found = whole["findings"]["pneumonia"]
    assert any("(against) was trained on any of them is not known" in one for one in whole["warnings"])
    alone = judged(here, other, "--on", site, "--part", "all")["findings"]["pneumonia"]
    assert found["against"]["auroc"] == alone["auroc"]
    assert found["against"]["value"] == pytest.approx(found["auroc"] - alone["auroc"])
    same = judged(here, simulated, "--on", site, "--against", simulated)["findings"]["pneumonia"]
    assert same["against"]["value"] == 0


@pytest.mark.slow
def test_a_model_that_knows_nobody_is_compared_on_those_whom_the_other_did_not_train_on(
    here, simulated, tmp_path
):
    other = tmp_path / "other"
    run(scenario_of("FedAvg", seed=6, split={"test": 0.3, "validation": 0.3}), other)
    site = site_of(simulated)
    found = judged(here, other, "--on", site, "--against", simulated)
    assert (found["part"], found["n_training"]) == ("test", None)
    assert found["n_patients"] == read_result(simulated).sites[site.name].split["test"]
    assert (
        found["findings"]["pneumonia"]["against"]["auroc"]
        == read_result(simulated).sites[site.name].federated.auroc
    )


def test_two_runs_that_split_the_same_patients_otherwise_are_not_compared_and_the_reason_is_said(
    simulated, tmp_path
):
    model = replace(read_model(simulated), data="else/images")
    other = replace(model, plan=model.plan.model_copy(update={"seed": 6}))
    place = Place(tmp_path / "images")
    with pytest.raises(DataError, match=r"the two runs split these patients by other seeds \(5 and 6\)"):
        evaluate(model, other, place, Wish(), torch.device("cpu"))


def test_training_patients_are_named(here, simulated):
    found = judged(here, simulated, "--on", site_of(simulated), "--part", "all")
    assert found["n_training"] > 0
    assert any("training patients of this run" in one for one in found["warnings"])


def test_thresholds_are_given_or_chosen_on_validation(here, simulated):
    site = site_of(simulated)
    given = judged(here, simulated, "--on", site, "--threshold", 0.25)["findings"]["pneumonia"]
    assert (given["threshold"], given["threshold_from"]) == (0.25, "given")
    chosen = judged(here, simulated, "--on", site, "--at-sensitivity", 0.9)["findings"]["pneumonia"]
    validation = judged(
        here, simulated, "--on", site, "--part", "validation", "--threshold", chosen["threshold"]
    )
    assert validation["findings"]["pneumonia"]["sensitivity"] >= 0.9


def test_bad_input_is_one_line(here, simulated, tmp_path):
    site, model = str(site_of(simulated)), str(simulated)
    np.savez(tmp_path / "one.npz", test_images=np.zeros((9, 16, 16), np.uint8), test_labels=np.ones((9, 1)))
    (tmp_path / "rubbish.npz").write_bytes(b"rubbish")
    headless = tmp_path / "headless"
    shutil.copytree(simulated, headless, ignore=shutil.ignore_patterns("cohorts", "dicom", "arms"))
    plan = (headless / "plan.yaml").read_text().replace("name: FedAvg", "name: FedPer")
    (headless / "plan.yaml").write_text(plan)
    cases = {
        (model, "--on", "absent"): "no such cohort",
        ("absent", "--on", site): "not a model's folder",
        (model, "--on", str(tmp_path / "rubbish.npz")): "not an .npz",
        (
            model,
            "--on",
            str(tmp_path / "one.npz"),
        ): "9 of 9 patients have it: expected patients of both classes",
        (model, "--on", site, "--threshold", "0.5", "--at-sensitivity", "0.5"): "expected one of",
        (str(headless), "--on", site): "leaves the head at the hospitals, untrained elsewhere",
    }
    for command, said in cases.items():
        refused(here("evaluate", *command), said)
