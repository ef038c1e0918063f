"""The card says what is known of a run, and nothing that is not."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from common import wire
from common.methods import METHODS
from common.plan import Input, Privacy, Training
from common.report.card import render_card
from common.results.card import OnTest, OnValidation
from common.results.form import to_tree
from common.results.rounds import read_history
from common.results.run import FILE as RESULT
from common.results.run import read_result, write_result
from server.card import describe, of_deployment
from tests.helpers.plans import small_plan
from tests.helpers.runs import deployed_run

OLDER = Path(__file__).parents[1] / "common/results/older"


def test_a_private_run_s_card_says_what_was_spent(tmp_path):
    plan = small_plan(privacy=Privacy(epsilon=3.0, delta=1e-4))
    card = describe(deployed_run(tmp_path / "run", plan), plan, {})
    assert card.privacy.epsilon == 3.0
    assert "of each patient" in card.privacy.what
    assert not any("without differential privacy" in limit for limit in card.limits)


def test_a_simulation_s_card_has_its_test_patients(tmp_path):
    (tmp_path / RESULT).write_bytes((OLDER / RESULT).read_bytes())
    card = describe(tmp_path, small_plan(rounds=99), {"model.safetensors": "0"})
    assert card.rounds == read_result(tmp_path).rounds < 99  # as many as were trained
    assert (card.kind, card.run) == ("simulation", "simulation")
    assert isinstance(card.metrics, OnTest)
    assert card.metrics.n_patients == sum(site.test.n_patients for site in card.sites.values())
    assert "Trained in a simulation: no hospital took part." in card.limits
    assert "thresholds" not in to_tree(card)  # of one finding: programs of before can read it


@pytest.mark.parametrize("unknown", ["auroc", "auroc_se"])
def test_an_interval_that_nobody_knows_is_not_all_of_it(tmp_path, unknown):
    """max(0, NaN) is 0: an unknown error must not become the interval from 0 to 1."""
    report = read_history(deployed_run(tmp_path / "run"))[-1]
    judged = replace(report, evaluation=replace(report.evaluation, **{unknown: math.nan}))
    metrics = of_deployment(small_plan(), [judged], None)["metrics"]
    assert isinstance(metrics, OnValidation)
    assert all(map(math.isnan, metrics.auroc_ci))


def test_a_run_that_was_never_judged_has_a_card_that_says_so(tmp_path):
    report = replace(read_history(deployed_run(tmp_path / "run"))[-1], evaluation=None)
    known = of_deployment(small_plan(), [report], None)
    assert math.isnan(known["metrics"].auroc)
    assert math.isnan(known["temperature"])
    assert {site.patients for site in known["sites"].values()} == {None}


def judged(evaluation, loss):
    sites = {site: {**numbers, wire.LOSS: loss} for site, numbers in evaluation.sites.items()}
    return replace(evaluation, loss=loss, brier=loss / 10, sites=sites)


def test_the_card_of_a_chosen_round_says_which(tmp_path):
    report = read_history(deployed_run(tmp_path / "run"))[-1]
    losses = (0.6, 0.4, 0.5)
    history = [
        replace(report, round=k, evaluation=judged(report.evaluation, loss))
        for k, loss in enumerate(losses, start=1)
    ]
    known = of_deployment(small_plan(rounds=3, evaluation={"select": "best"}), history, None)
    assert (known["chosen"], known["metrics"].on) == (2, "validation patients, after round 2")
    assert known["metrics"].brier == 0.04
    last = of_deployment(small_plan(rounds=3), history, None)
    assert (last["chosen"], last["metrics"].brier) == (None, 0.05)


def test_who_trained_and_told_no_scores_is_on_the_card(tmp_path):
    """Else it would be a stranger to its own model, and judge it on the patients that it was trained on."""
    plan = small_plan()
    run = deployed_run(tmp_path / "run", plan)
    trained = sorted({site for report in read_history(run) for site in report.sites})
    result = replace(read_result(OLDER), engine="deployment")
    told, *silent = trained
    one = next(iter(result.sites.values()))
    write_result(run, replace(result, sites={told: one}))
    card = describe(run, plan, {})
    assert sorted(card.sites) == trained
    assert silent
    assert all(card.sites[site].validation == {} for site in silent)
    assert f"{len(trained)} sites" in render_card(card, signed=True)


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize("simulated", [True, False])
def test_scores_of_models_that_stay_at_the_hospitals_are_not_the_file_s(tmp_path, method, simulated):
    training = Training(momentum=0.0)
    plan = small_plan(strategy={"name": method}, training=training)
    run = deployed_run(tmp_path / "run", plan)
    if simulated:
        run = tmp_path
        (run / RESULT).write_bytes((OLDER / RESULT).read_bytes())
    card = describe(run, plan, {})
    own = method == "Ditto"
    assert card.metrics.on.endswith("own model") == own
    assert (math.isnan(card.temperature), any("nobody judged it" in line for line in card.limits)) == (
        own,
        own,
    )
    page = render_card(card, signed=False)
    assert ("nobody chose one for this file" in page) == own
    if own:
        assert (card.calibration, str(card.threshold)) == (None, "nan")
        assert "accuracy at 0.5, which nobody chose" not in page


def test_the_card_of_a_model_of_visits_says_what_it_speaks_of(tmp_path):
    for label in ("patient", "visit"):
        plan = small_plan(input=Input(label=label))
        run = deployed_run(tmp_path / label, plan)
        said = [line for line in describe(run, plan, {}).limits if "newest visit" in line]
        assert bool(said) == (label == "visit")
