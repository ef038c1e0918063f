"""Which split a patient was in: the run's own, wherever the images lie; unknown of everybody else's."""

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from client.imaging.cohort import Cohort, build_cohort
from client.imaging.sources import ImageIndex
from client.prediction.judging.labelled import Place, read_part
from client.prediction.parts import UNKNOWN, Parts, content_sha256, is_own
from common.config import load_yaml
from common.handover import read_model
from common.plan import Plan
from server.export import export_run
from simulation.scenario import ImageData, Machine, NpzData, Partition
from tests.helpers.images import write_index
from tests.helpers.plans import small_scenario
from tests.helpers.simulated import run

MACHINE = Machine(threads=1, arms=())


@pytest.fixture(scope="module")
def of_images(tmp_path_factory):
    """A run over a folder of PNGs, dealt out to two hospitals."""
    folder = tmp_path_factory.mktemp("parts")
    write_index(folder / "images", 40)
    data = ImageData(path=str(folder / "images" / "index.csv"), partition=Partition(sites=2, alpha=5.0))
    run(small_scenario(data=data, simulation=MACHINE, rounds=1), folder / "run")
    return folder


def rows_of(here, model, source, out):
    done = here("client", "predict", "--model", str(model), "--input", str(source), "--out", str(out))
    assert done.returncode == 0, done.stderr
    with (out / "predictions.csv").open(newline="") as file:
        return {row["patient"]: row for row in csv.DictReader(file)}


def expected_parts(run_folder):
    """How many patients each part has, as the run says."""
    result = json.loads((run_folder / "metrics.json").read_text())
    parts = [site["split"] for site in result["sites"].values()]
    return {part: sum(split[part] for split in parts) for part in ("train", "validation", "test")}


def count(rows):
    return {
        part: sum(row["split"] == part for row in rows.values()) for part in ("train", "validation", "test")
    }


def test_images_with_an_index_are_predicted_and_each_patient_s_split_is_said(here, of_images, tmp_path):
    rows = rows_of(here, of_images / "run", of_images / "images", tmp_path / "out")
    assert len(rows) == 40
    assert count(rows) == expected_parts(of_images / "run")
    # The cohorts of the run give the same numbers, image by image.
    for cohort in sorted((of_images / "run" / "cohorts").iterdir()):
        found = rows_of(here, of_images / "run", cohort, tmp_path / cohort.name)
        plan = load_yaml(of_images / "run" / "plan.yaml", Plan)
        split = Cohort.open(cohort).split(plan.split)
        for part, indices in split.items():
            names = set(Cohort.open(cohort).patients[indices])
            assert {patient for patient, row in found.items() if row["split"] == part} == names
    by_probability = sorted(row["probability_pneumonia"] for row in rows.values())
    cohorts = [
        rows_of(here, of_images / "run", c, tmp_path / c.name)
        for c in (of_images / "run" / "cohorts").iterdir()
    ]
    assert (
        sorted(row["probability_pneumonia"] for found in cohorts for row in found.values()) == by_probability
    )


def test_labels_are_not_looked_at(here, of_images, tmp_path):
    shutil.copytree(of_images / "images", tmp_path / "images")
    index = tmp_path / "images" / "index.csv"
    rows = list(csv.DictReader(index.open()))
    with index.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["patient", "file", "day"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    found = rows_of(here, of_images / "run", index, tmp_path / "out")
    known = rows_of(here, of_images / "run", of_images / "images", tmp_path / "known")
    assert {p: r["probability_pneumonia"] for p, r in found.items()} == {
        p: r["probability_pneumonia"] for p, r in known.items()
    }
    assert {row["split"] for row in found.values()} == {UNKNOWN}  # another table: not known to be the run's


def test_other_data_of_the_same_name_are_not_the_run_s_and_its_own_are_under_any_name(of_images, tmp_path):
    handed = read_model(of_images / "run")
    write_index(tmp_path / "other" / "images", 12, seed=1)
    assert not is_own(handed, tmp_path / "other" / "images" / "index.csv", None)
    shutil.copytree(of_images / "images", tmp_path / "renamed")
    assert is_own(handed, tmp_path / "renamed", None)
    assert content_sha256(tmp_path / "other") != content_sha256(of_images / "images")
    assert content_sha256(tmp_path / "renamed" / "nothing") == ""


def test_arrays_are_predicted_and_those_of_test_were_in_no_training(here, tmp_path):
    rng = np.random.default_rng(0)
    arrays = {}
    for part, n in (("train", 40), ("val", 10), ("test", 12)):
        labels = np.arange(n) % 2
        arrays[f"{part}_images"] = (rng.integers(0, 90, (n, 16, 16)) + 100 * labels[:, None, None]).astype(
            np.uint8
        )
        arrays[f"{part}_labels"] = labels.reshape(-1, 1)
    np.savez(tmp_path / "set.npz", **arrays)
    data = NpzData(path=str(tmp_path / "set.npz"), partition=Partition(sites=2, alpha=5.0))
    contract = {"size": 16, "max_frames": 1}
    run(small_scenario(data=data, simulation=MACHINE, rounds=1, input=contract), tmp_path / "run")
    rows = rows_of(here, tmp_path / "run", tmp_path / "set.npz", tmp_path / "out")
    assert len(rows) == 62
    there = expected_parts(tmp_path / "run")
    assert count(rows) == there | {"test": there["test"] + 12}
    np.savez(tmp_path / "else.npz", **{k: v[:6] for k, v in arrays.items()})
    other = rows_of(here, tmp_path / "run", tmp_path / "else.npz", tmp_path / "else")
    assert {row["split"] for row in other.values()} == {UNKNOWN}


def test_a_site_s_key_tells_the_split_and_nobody_else_s(of_images):
    plan = load_yaml(of_images / "run" / "plan.yaml", Plan)
    told = [Parts(plan.split, key).of_patient("patient-1") for key in (b"a", b"a", None)]
    assert told[0] == told[1] in ("train", "validation", "test")
    assert told[2] == UNKNOWN


def test_only_where_results_go_to_its_pacs_is_the_folder_that_one_stands_in_the_site_s(
    tmp_path, place, monkeypatch
):
    """Images from elsewhere, judged from inside a site's folder, are not the site's: none of its splits is
    theirs."""
    from client.prediction.cli import _site

    _, _, sites = place
    monkeypatch.chdir(tmp_path)
    assert _site(None, or_here=True) is None
    monkeypatch.chdir(sites["north"].path)
    assert _site(None) is None
    here = _site(None, or_here=True)
    assert here is not None
    assert here.settings_file.is_file()
    given = _site(sites["south"].path, or_here=True)
    assert given is not None
    assert given.path == sites["south"].path


def test_a_hospital_that_took_no_part_has_no_split_and_all_its_patients_are_new(of_images, place):
    """Its cohort was made by the same plan, which splits it as anybody's; the run never saw it."""
    *_, sites = place
    (first, *_) = sorted((of_images / "run" / "cohorts").iterdir())
    simulated = read_model(of_images / "run")
    handed = replace(simulated, cohorts=frozenset(), hospitals=frozenset({"north", "west"}))
    for name in ("north", "south"):
        cohort = sites[name].cohort(handed.plan)
        shutil.copytree(first, cohort)
        n = len(Cohort.open(cohort))
        for site in (None, sites[name]):
            known = Parts.of(handed, cohort, site).of_pseudonym("patient") != UNKNOWN
            assert known == is_own(handed, cohort, sites[name]) == (name == "north")
            judged = read_part(handed, Place(cohort, site=site), "test", cohort)
            assert (len(judged.indices) < n) == known
            assert judged.n_training == (0 if known else None)
    unsaid = replace(handed, hospitals=frozenset())
    assert Parts.of(unsaid, sites["north"].cohort(handed.plan), None).of_pseudonym("patient") == UNKNOWN
    trained_there = replace(unsaid, folder=sites["north"].path / "alone" / "1")
    assert Parts.of(trained_there, sites["north"].cohort(handed.plan), None).of_pseudonym("p") != UNKNOWN
    assert Parts.of(trained_there, sites["south"].cohort(handed.plan), None).of_pseudonym("p") == UNKNOWN


def test_a_hospital_s_patients_are_its_own_however_often_it_ingests(of_images, place):
    """Its secret splits them, those that came later too; another's cohort is not its own for being judged in
    its name."""
    *_, sites = place
    model = read_model(of_images / "run")
    handed = replace(model, cohorts=frozenset(), hospitals=frozenset({"north"}))
    write_index(of_images / "later", 60, seed=3)
    cohort = sites["north"].cohort(handed.plan)
    source = ImageIndex(of_images / "later" / "index.csv").read(handed.plan.input, handed.plan.findings)
    key = sites["north"].secret.read_bytes()
    build_cohort(cohort, source, handed.plan.input, handed.plan.findings, key, "")
    judged = read_part(handed, Place(cohort, site=sites["north"]), "test", cohort)
    assert judged.part == "test"
    assert 0 < len(judged.indices) < 60
    (first, *_) = sorted((of_images / "run" / "cohorts").iterdir())
    assert not is_own(replace(handed, folder=cohort), first, sites["north"])
    assert not is_own(model, cohort, sites["north"])  # a simulation's model: no hospital took part


@pytest.mark.slow
def test_a_cohort_is_a_simulation_s_own_by_what_it_holds_and_not_by_being_one(of_images, tmp_path):
    """Another seed splits the same patients otherwise: among its test patients are our training patients."""
    scenario = small_scenario(
        data=ImageData(path=str(of_images / "images" / "index.csv"), partition=Partition(sites=2, alpha=5.0)),
        simulation=MACHINE, rounds=1, seed=77,
    )  # fmt: skip
    run(scenario, tmp_path / "other")
    export_run(of_images / "run", tmp_path / "model", None)
    for model in (read_model(of_images / "run"), read_model(tmp_path / "model")):
        for cohort in sorted((tmp_path / "other" / "cohorts").iterdir()):
            found = read_part(model, Place(cohort), "test", tmp_path)
            assert (len(found.indices), found.n_training, found.part) == (len(found.cohort), None, "all")
        for cohort in sorted((of_images / "run" / "cohorts").iterdir()):
            shutil.copytree(cohort, tmp_path / "elsewhere" / cohort.name, dirs_exist_ok=True)
            assert (
                read_part(model, Place(tmp_path / "elsewhere" / cohort.name), "test", tmp_path).part == "test"
            )
    before = json.loads((of_images / "run" / "metrics.json").read_text())
    del before["cohorts"]
    shutil.copytree(of_images / "run", tmp_path / "before")
    (tmp_path / "before" / "metrics.json").write_text(json.dumps(before))
    older = read_model(tmp_path / "before")
    cohorts = sorted((tmp_path / "before" / "cohorts").iterdir())
    assert [is_own(older, c, None) for c in cohorts] == [True, True]  # the run's own folder
    assert not is_own(older, tmp_path / "elsewhere" / cohorts[0].name, None)


def test_one_hospital_s_folder_is_the_run_s_own_too(tmp_path):
    for name in ("ha", "hb"):
        write_index(tmp_path / "hospitals" / name, 40)
    data = ImageData(path=str(tmp_path / "hospitals"))
    run(small_scenario(data=data, simulation=MACHINE, rounds=1), tmp_path / "run")
    model = read_model(tmp_path / "run")
    kept = read_part(model, Place(tmp_path / "run" / "cohorts" / "ha"), "test", tmp_path / "1")
    straight = read_part(model, Place(tmp_path / "hospitals" / "ha"), "test", tmp_path / "2")
    assert 0 < len(straight.indices) < 40
    assert straight.part == "test"
    names = [set(p.cohort.patients[p.indices].tolist()) for p in (kept, straight)]
    assert names[0] == names[1]
    write_index(tmp_path / "strangers" / "ha", 40)
    assert not is_own(model, tmp_path / "strangers" / "ha", None)
