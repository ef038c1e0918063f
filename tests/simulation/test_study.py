"""Studies and searches: every one that is shipped is valid; a small one runs, resumes and writes what it
found."""

import json

import pytest
import yaml

from simulation.phantom import write_phantom
from simulation.study import FOLDER, load_study
from tests.helpers.command import refused
from tests.helpers.studies import SMALL


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_study_is_valid_in_every_variant(path):
    name, study = load_study(path.stem)
    assert name == path.stem
    scenarios = {
        study.scenario_of(v, 1, full, {}).model_dump_json() for v in study.variants for full in (False, True)
    }
    assert len(scenarios) == 2 * len(study.variants)  # each is another, and so is each in full
    assert study.question.endswith("?")


@pytest.mark.slow
def test_a_study_runs_resumes_and_shows_what_it_found(here, tmp_path):
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(SMALL))
    done = here("study", "small.yaml", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found["variants"]) == {"narrow, 4", "wide"}
    row = found["variants"]["wide"]["federated"]
    assert row["mean"] == pytest.approx(sum(row["seeds"].values()) / 2)
    folder = tmp_path / "runs/study-small"
    result = json.loads((folder / "runs/wide/seed-2/metrics.json").read_text())
    assert row["seeds"]["2"] == result["test"]["federated"]["auroc"]
    assert len(list((folder / "data").iterdir())) == 2  # a seed's hospitals are made once for both variants
    before = (folder / "runs/wide/seed-2/metrics.json").stat().st_mtime_ns
    (folder / "runs/narrow--4/seed-1/metrics.json").unlink()
    again = here("study", "small.yaml")
    assert "| wide |" in again.stdout
    assert (folder / "runs/wide/seed-2/metrics.json").stat().st_mtime_ns == before
    assert json.loads((folder / "table.json").read_text())["variants"]["wide"]["federated"] == row
    assert "narrow, 4" in (folder / "figure.svg").read_text()
    changed = here("study", "small.yaml", "--set", "rounds=2")
    refused(changed, "was started with another plan")


@pytest.mark.slow
def test_bad_studies_are_refused_before_anything_trains(here, tmp_path):
    refused(here("study", "absent"), "no such study; studies are: encoders")
    for change, says in [
        ({"variants": {"odd": {"model.depth": 3}}}, "variant 'odd': model.depth: unknown key"),
        ({"variants": {"odd": {"rounds.x": 3}}}, "rounds holds 1, not further keys"),
        ({"main": "loss"}, "main: found 'loss'"),
        (
            {"main": "alone", "variants": {"odd": {"simulation.arms": []}}},
            "simulation.arms has no local_only",
        ),
    ]:
        (tmp_path / "bad.yaml").write_text(yaml.safe_dump({**SMALL, **change}))
        refused(here("study", "bad.yaml"), says)
    assert not (tmp_path / "runs").exists()
    (tmp_path / "few.yaml").write_text(
        yaml.safe_dump({**SMALL, "scenario": {**SMALL["scenario"], "min_patients": 500}})
    )
    refused(here("study", "few.yaml"), "found", "the plan's minimum is 500")
    krum = {"krum": {"strategy.name": "Krum", "strategy.options": {"num_malicious_nodes": 1}}}
    (tmp_path / "krum.yaml").write_text(yaml.safe_dump({**SMALL, "variants": krum}))
    refused(here("study", "krum.yaml"), "strategy Krum: found 2 sites, it needs at least 5")
    hostile = {"h": {"simulation.hostile": {"hospital-x": -1.0}}}
    (tmp_path / "hostile.yaml").write_text(yaml.safe_dump({**SMALL, "variants": hostile}))
    refused(here("study", "hostile.yaml"), "hospital-x: no such site; sites are hospital-a, hospital-b")


def turn_round(labels):
    """Every label of a table is the other one."""
    header, *rows = labels.read_text().splitlines()
    assert header.endswith("pneumonia")
    other = {"0": "1", "1": "0"}
    labels.write_text("\n".join([header, *(f"{row[:-1]}{other[row[-1]]}" for row in rows)]) + "\n")


@pytest.mark.slow
def test_runs_of_other_data_are_not_put_into_one_table_or_one_run(here, tmp_path):
    write_phantom(tmp_path / "hospitals", 2, 20, 3)
    given = {**SMALL["scenario"], "data": {"source": "dicom", "path": "hospitals"}}
    one = {**SMALL, "scenario": given, "variants": {"as it is": {}}, "seeds": [1]}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(one))
    assert here("study", "study.yaml", "--out", "s").returncode == 0
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(given))
    assert here("simulate", "plan.yaml", "--out", "r").returncode == 0
    turn_round(tmp_path / "hospitals" / "hospital-a" / "labels.csv")
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({**one, "seeds": [1, 2]}))
    refused(here("study", "study.yaml", "--out", "s"), "seed-2: was trained on other data than", "seed-1")
    assert not list((tmp_path / "s/runs/as-it-is/seed-2").glob("arms/*/*.safetensors"))  # before it trained
    (tmp_path / "r/metrics.json").unlink()
    refused(here("simulate", "--out", "r", "--resume"), "the data of hospital-a are not those")
    turn_round(tmp_path / "hospitals" / "hospital-a" / "labels.csv")
    assert here("simulate", "--out", "r", "--resume").returncode == 0


def test_what_the_runs_differ_in_is_not_overridden(here, tmp_path):
    variants = {"one": {"training.epochs": 1}, "two": {"training.epochs": 2}}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump({**SMALL, "variants": variants}))
    for given in ("seed=7", "training.epochs=3", "training={epochs: 3}"):
        refused(here("study", "s.yaml", "--set", given), "the study's runs differ in it")
    twins = {"a b": {}, "a-b": {"rounds": 2}}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump({**SMALL, "variants": twins}))
    refused(here("study", "s.yaml"), "'a b' and 'a-b' would share a folder")


@pytest.mark.slow
def test_a_measure_that_one_hospital_does_not_have_is_said(here, tmp_path):
    alone = {**SMALL["scenario"], "data": {"source": "phantom", "sites": 1, "patients": 20}}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump({**SMALL, "scenario": alone, "main": "alone"}))
    refused(here("study", "s.yaml"), "has no alone: there is one hospital alone")


@pytest.mark.slow
def test_a_study_s_runs_can_be_audited(here, tmp_path):
    one = {**SMALL, "variants": {"a": {}}, "seeds": [1]}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(one))
    assert here("study", "s.yaml", "--out", "s").returncode == 0
    done = here("audit-privacy", "s/runs/a/seed-1", "--canaries", "20", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["site"] == "hospital-a"
