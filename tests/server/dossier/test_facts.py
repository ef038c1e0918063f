"""A fact is said where it is known, is empty where it is not, and says of a simulation that it was one."""

import re
from dataclasses import replace

import pytest

from common.config import load_yaml
from common.plan import Privacy
from common.results.run import write_result
from server.dossier.facts import facts_of, read_run
from server.dossier.write import CHECKLISTS, HERE, Checklist
from tests.helpers.plans import small_plan
from tests.helpers.results import run_result
from tests.helpers.runs import deployed_run

PRIVATE = Privacy(epsilon=8.0, delta=1e-3, steps=4)


def deployed(path, **changes):
    return read_run(deployed_run(path / "run", small_plan(**changes)))


def judged(path, kind="deployment"):
    folder = deployed_run(path / "run")
    write_result(folder, run_result({"st-mary": 0.9, "st-john": 0.8}))
    if kind == "simulation":
        (folder / "run.json").unlink()
    return read_run(folder)


RUNS = {
    "deployed": deployed,
    "deployed, final scores": judged,
    "simulated": lambda path: judged(path, "simulation"),
    "private": lambda path: deployed(path, privacy=PRIVATE, evaluation={"every": 0}),
    "secure": lambda path: deployed(path, aggregation={"secure": True, "threshold": 2}),
    "begun with weights": lambda path: deployed(
        path, model={**small_plan().model.model_dump(), "pretrained": "a" * 64}
    ),
    "best round": lambda path: deployed(path, evaluation={"select": "best"}),
    "CT": lambda path: deployed(path, input={"modality": "ct", "size": 16, "max_frames": 4}),
}


@pytest.mark.parametrize("kind", RUNS)
def test_every_fact_is_a_line_that_people_can_read(tmp_path, kind):
    for name, text in facts_of(RUNS[kind](tmp_path)).items():
        assert "\n" not in text
        assert not re.search(r"\bNone\b(?! is|:)|\bnan\b|[{}]|&[a-z]+;|  | [.;,]", text), (name, text)
        assert not text or text.endswith((".", "'.")), (name, text)


def test_what_checklists_ask_for_is_what_there_is(tmp_path):
    asked = {
        n
        for name in CHECKLISTS
        for item in load_yaml(HERE / f"{name}.yaml", Checklist).items
        for n in item.facts
    }
    assert asked == facts_of(deployed(tmp_path)).keys()


def test_a_run_without_final_scores_says_what_it_was_judged_on_and_no_more(tmp_path):
    facts = facts_of(deployed(tmp_path))
    assert facts["performance"].startswith("On validation patients, after the last round: AUROC 0.900")
    assert facts["by_site"] == facts["confusion"] == facts["subgroups"] == facts["prevalence"] == ""
    assert facts["counts"] == "Patients trained on: st-john withheld, st-mary 80."
    assert "which each hospital approved before it trained" in facts["protocol"]


def test_of_one_with_final_scores_every_hospital_is_told(tmp_path):
    facts = facts_of(judged(tmp_path))
    assert "st-mary 0.900" in facts["by_site"]
    assert "st-john 0.800" in facts["by_site"]
    assert facts["confusion"]


def test_a_simulation_is_called_one(tmp_path):
    facts = facts_of(judged(tmp_path, "simulation"))
    assert "no hospital took part" in facts["task"]
    assert "no hospital approved it" in facts["protocol"]
    assert "simulated hospitals" in facts["centres"]


def test_privacy_is_what_the_plan_promised(tmp_path):
    facts = facts_of(RUNS["private"](tmp_path))
    assert facts["privacy"].startswith("Differential privacy for each patient: epsilon 8.0, delta 0.001")


def test_nobody_knows_the_score_of_a_run_that_nobody_judged(tmp_path):
    run = deployed(tmp_path)
    unknown = replace(run.card, metrics=replace(run.card.metrics, auroc=float("nan")))
    assert facts_of(replace(run, card=unknown))["performance"] == ""


def test_the_threshold_is_on_the_probability_that_predict_writes(tmp_path):
    run = judged(tmp_path)
    facts = facts_of(replace(run, card=replace(run.card, threshold=0.3, temperature=2.0)))
    assert "called present from 0.396 on, after calibration." in facts["output"]  # sigmoid(logit(0.3) / 2)
    bare = facts_of(replace(run, card=replace(run.card, threshold=0.3, temperature=float("nan"))))
    assert "called present from 0.300 on." in bare["output"]
    several = replace(run.card, thresholds={"pneumonia": 0.3, "effusion": 0.7}, temperature=float("nan"))
    told = facts_of(replace(run, card=several))["output"]
    assert "; of pneumonia it is called present from 0.300 on; of effusion from 0.700 on." in told


def test_the_data_of_a_simulation_are_told_in_words_without_what_is_not_set_or_a_place(tmp_path):
    run = judged(tmp_path)
    data = {
        "source": "images", "path": "/home/anna/x", "columns": {}, "partition": None, "ambiguous": 0.0,
        "names": ["a", "b"],
    }  # fmt: skip
    simulated = replace(run, card=replace(run.card, kind="simulation"), result=replace(run.result, data=data))
    told = "A simulation; the data by its plan: source images, ambiguous 0.0, names a and b."
    assert facts_of(simulated)["sources"] == told
    dealt = replace(
        run.result, data={"source": "npz", "partition": {"sites": 5, "alpha": 0.5, "sizes": None}}
    )
    said = facts_of(replace(simulated, result=dealt))["sources"]
    assert said.endswith("source npz, partition (sites 5, alpha 0.5).")
