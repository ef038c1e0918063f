"""Searches: candidates are drawn, halved, and refused where they are bad."""

import datetime
import json
from types import SimpleNamespace

import pytest
import yaml

from common import wire
from common.config import load_yaml
from server.checkpoint import Checkpoint
from simulation import tuning
from simulation.tuning import Search, draw_candidates
from tests.helpers.command import refused
from tests.helpers.plans import small_scenario
from tests.helpers.studies import SMALL

SEARCH = {
    "scenario": {**SMALL["scenario"], "data": {"source": "phantom", "sites": 2, "patients": 60}},
    "space": {"training.learning_rate": {"log": [0.001, 0.5]}, "model.pooling": {"among": ["last", "mean"]}},
    "candidates": 4, "rounds": 1, "keep": 2,
}  # fmt: skip


@pytest.mark.slow
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


@pytest.mark.slow
def test_no_candidate_is_the_best_where_none_has_a_score(here, tmp_path):
    few = {**SMALL["scenario"], "data": {"source": "phantom", "sites": 2, "patients": 20}}
    (tmp_path / "few.yaml").write_text(yaml.safe_dump({**SEARCH, "scenario": few}))
    refused(here("tune", "few.yaml"), "no candidate has an AUROC")


def test_bad_searches_are_refused(here, tmp_path):
    for change, says in [
        ({"space": {"training.lr": {"among": [1]}}}, "candidate 1 (training.lr=1): training.lr: unknown key"),
        ({"space": {"training.learning_rate": {"log": [1.0, 0.1]}}}, "expected 0 < low < high"),
        ({"space": {"training.learning_rate": {}}}, "expected either among"),
        ({"space": {"training.learning_rate": {"among": []}}}, "expected one value at least"),
        ({"space": {"model.pooling": {"among": [datetime.date(2024, 1, 1)]}}}, "each as a plan has it"),
        ({"space": {"rounds": {"among": [2, 4]}}}, "rounds: is no value to search: the search sets it"),
        ({"space": {"split.validation": {"among": [0.1, 0.3]}}}, "compared on the same patients"),
        ({"space": {"split": {"among": [{"validation": 0.1}]}}}, "compared on the same patients"),
        ({"space": {"evaluation.threshold": {"among": ["youden"]}}}, "what candidates are compared by"),
        ({"scenario": {**SMALL["scenario"], "split": {"validation": 0.0}}}, "compared by validation scores"),
    ]:
        (tmp_path / "bad.yaml").write_text(yaml.safe_dump({**SEARCH, **change}))
        refused(here("tune", "bad.yaml"), says)


def test_a_candidate_is_ranked_by_the_weights_that_its_run_would_hand_over(tmp_path, monkeypatch):
    def evaluation(loss, auroc):
        numbers = {wire.LOSS: loss, wire.AUROC: auroc, wire.N_EXAMPLES: 9.0}
        return SimpleNamespace(auroc=auroc, sites={"a": numbers})

    history = [
        SimpleNamespace(round=k, evaluation=evaluation(*at))
        for k, at in enumerate([(0.3, 0.9), (0.8, 0.6)], 1)
    ]
    monkeypatch.setattr(tuning, "prepare", lambda *args: [])
    monkeypatch.setattr(tuning, "run_arm", lambda *args: Checkpoint(2, {}, history=history))
    for select, expected in (("best", 0.9), ("last", 0.6)):
        scenario = small_scenario(rounds=2, evaluation={"select": select})
        assert tuning._score(scenario, tmp_path / select, tmp_path, lambda arm: None) == expected
