"""Studies and searches: every one that is shipped is valid; a small one runs, resumes and writes what it
found."""

import json

import pytest
import yaml

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
