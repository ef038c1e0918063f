"""Studies and searches: every one that is shipped is valid; a small one runs, resumes and writes what it
found."""

import json

import pytest
import yaml

from common.config import load_yaml
from simulation.study import FOLDER, load_study
from simulation.tuning import Search, draw_candidates
from tests.helpers.command import refused
from tests.helpers.tools import require_data

SMALL = {
    "question": "does width matter?",
    "seeds": [1, 2],
    "scenario": {
        "name": "small", "rounds": 1, "min_patients": 4, "input": {"size": 16, "max_frames": 3},
        "model": {"width": 4, "embedding": 8, "hidden": 8}, "training": {"batch_size": 8},
        "data": {"source": "phantom", "sites": 2, "patients": 20},
    },
    "variants": {"narrow, 4": {}, "wide": {"model.width": 8}},
}  # fmt: skip


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_study_is_valid_in_every_variant(path):
    name, study = load_study(path.stem)
    assert name == path.stem
    scenarios = {
        study.scenario_of(v, 1, full, {}).model_dump_json() for v in study.variants for full in (False, True)
    }
    assert len(scenarios) == 2 * len(study.variants)  # each is another, and so is each in full
    assert study.question.endswith("?")


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


def test_bad_studies_are_refused_before_anything_trains(here, tmp_path):
    refused(here("study", "absent"), "no such study; studies are: encoders")
    for change, says in [
        ({"variants": {"odd": {"model.depth": 3}}}, "variant 'odd': model.depth: unknown key"),
        ({"variants": {"odd": {"rounds.x": 3}}}, "rounds holds 1, not further keys"),
        ({"main": "loss"}, "main: found 'loss'"),
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


def test_a_real_set_is_dealt_out_unequally_in_size(here):
    path = require_data("pneumoniamnist", "pneumoniamnist_trainval.npz")
    _, study = load_study("heterogeneity")
    from simulation.sites import prepare_sites

    scenario = study.scenario_of("5 hospitals, unequal sizes", 1, False, {"data.path": str(path)})
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        sizes = sorted(len(site.open()) for site in prepare_sites(scenario, Path(folder)))
    assert sizes[-1] > 2 * sizes[0]


SEARCH = {
    "scenario": {**SMALL["scenario"], "data": {"source": "phantom", "sites": 2, "patients": 60}},
    "space": {"training.learning_rate": {"log": [0.001, 0.5]}, "model.pooling": {"among": ["last", "mean"]}},
    "candidates": 4, "rounds": 1, "keep": 2,
}  # fmt: skip


def test_a_search_halves_its_candidates_and_resumes(here, tmp_path):
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(SEARCH))
    done = here("tune", "s.yaml", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [(rung["rounds"], len(rung["ranking"])) for rung in found["rungs"]] == [(1, 4), (2, 2), (4, 1)]
    for rung, following in zip(found["rungs"], found["rungs"][1:], strict=False):
        scores = [row["score"] for row in rung["ranking"]]
        assert scores == sorted(scores, reverse=True)
        best = {row["candidate"] for row in rung["ranking"][: len(following["ranking"])]}
        assert {row["candidate"] for row in following["ranking"]} == best
    assert found["best"].keys() == SEARCH["space"].keys()
    again = here("tune", "s.yaml", "--json")
    assert json.loads(again.stdout) == found
    assert "--set training.learning_rate=" in here("tune", "s.yaml").stdout


def test_candidates_come_from_the_space_and_the_seed_alone(tmp_path):
    (tmp_path / "s.yaml").write_text(yaml.safe_dump({**SEARCH, "candidates": 50}))
    search = load_yaml(tmp_path / "s.yaml", Search)
    candidates = draw_candidates(search)
    assert len(candidates) == 50
    assert candidates == draw_candidates(search)
    rates = [c.values["training.learning_rate"] for c in candidates]
    assert all(0.001 <= rate <= 0.5 for rate in rates)
    assert sum(rate < 0.0224 for rate in rates) in range(13, 38)  # half of them, on a log scale
    small = {**SEARCH, "space": {"model.pooling": {"among": ["last", "mean"]}}, "candidates": 5}
    (tmp_path / "t.yaml").write_text(yaml.safe_dump(small))
    assert len(draw_candidates(load_yaml(tmp_path / "t.yaml", Search))) == 2


def test_bad_searches_are_refused(here, tmp_path):
    for change, says in [
        ({"space": {"training.lr": {"among": [1]}}}, "candidate 1 (training.lr=1): training.lr: unknown key"),
        ({"space": {"training.learning_rate": {"log": [1.0, 0.1]}}}, "expected 0 < low < high"),
        ({"space": {"training.learning_rate": {}}}, "expected either among"),
        ({"scenario": {**SMALL["scenario"], "split": {"validation": 0.0}}}, "compared by validation scores"),
    ]:
        (tmp_path / "bad.yaml").write_text(yaml.safe_dump({**SEARCH, **change}))
        refused(here("tune", "bad.yaml"), says)
