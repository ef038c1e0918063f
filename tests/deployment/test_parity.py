"""Simulation and deployment are one program: the same weights, bit for bit."""

import json

import numpy as np
import pytest
import torch

from common.plan import Plan
from server.rounds import Silent
from simulation import runs
from simulation.arms import FEDERATED, local_arm
from simulation.assess import assess
from simulation.scenario import Machine, Scenario
from simulation.simulate import run_arm
from simulation.sites import SiteData
from tests.helpers.plans import deployed_plan
from tests.helpers.runs import simulated


def test_three_sites_on_loopback_end_with_the_weights_of_the_simulation(deployment, tmp_path):
    plan = deployed_plan(rounds=3)
    d = deployment(3, plan)
    names = ["site-1", "site-2", "site-3"]
    d.up(*names)
    name = d.run()
    history = d.wait_finished(name)
    assert [sorted(report["sites"]) for report in history] == [names] * 3
    expected, found = simulated(d, plan, tmp_path, names), d.weights(name)
    assert expected.keys() == found.keys()
    assert all(np.array_equal(expected[k], found[k]) for k in expected)


@pytest.mark.slow
def test_the_federation_s_report_is_the_simulation_s(deployment, tmp_path):
    """A hospital's own scores and gain are identical; what is pooled from cells of five patients is within
    0.002."""
    plan = deployed_plan(
        rounds=3, split={"validation": 0.2, "test": 0.5}, evaluation={"final": True, "alone": True}
    )
    d = deployment(3, plan)
    names = ["site-1", "site-2", "site-3"]
    for name in names:
        d.make_cohort(name, 400)
        d.set(name, policy={"final": name != "site-3", "min_patients": 5})
    d.up(*names)
    name = d.run()
    d.wait_finished(name)
    told = json.loads(d.ask("report", name, "--json"))
    assert (d.server.runs / name / "report.html").is_file()
    assert told["silent"] == {"site-3": "this site's policy keeps its final scores (policy.final)"}

    expected = judged(d, plan, tmp_path, names, names[:2])
    for site in names[:2]:
        ours, theirs = told["sites"][site], expected.sites[site]
        for arm in ("federated", "local_only"):
            for score in ("auroc", "auprc", "sensitivity", "brier", "ece"):
                assert ours[arm][score] == getattr(getattr(theirs, arm), score)
                assert tuple(ours[arm][f"{score}_ci"]) == getattr(getattr(theirs, arm), f"{score}_ci")
        assert ours["gain"]["value"] == theirs.gain.value
        assert ours["split"] == theirs.split
        assert ours["federated"]["accuracy"] == pytest.approx(theirs.federated.accuracy, abs=0.02)
    pooled, whole = told["test"]["federated"], expected.test.federated
    assert pooled["auroc"] == pytest.approx(whole.auroc, abs=0.002)
    assert pooled["mean"]["auroc"] == whole.mean.auroc
    assert pooled["brier"] == pytest.approx(whole.brier, abs=0.002)
    assert pooled["n_patients"] == whole.n_patients
    assert told["confusion"]["threshold"] == pytest.approx(expected.confusion.threshold, abs=0.05)

    # What left is in the site's own log; the card of the model says test patients.
    answers = [entry["final"] for entry in d.audit("site-1") if "final" in entry]
    assert len(answers) == 1
    assert json.loads(answers[0])["federated"]["auroc"] == told["sites"]["site-1"]["federated"]["auroc"]
    assert d.at("site-1", "audit", "verify")
    d.ask("export", name, "--out", str(tmp_path / "model"))
    card = json.loads((tmp_path / "model" / "card.json").read_text())
    assert card["kind"] == "deployment"
    assert card["metrics"]["on"] == "test patients"
    assert card["threshold"] == told["confusion"]["threshold"]


def judged(d, plan, tmp_path, trained, told):
    """A simulation over the deployment's own cohorts, judged at the sites that told their scores."""
    out, fields = tmp_path / "run", {key: getattr(plan, key) for key in Plan.model_fields}
    scenario = Scenario(**fields, simulation=Machine(threads=1, arms=("local_only",)))
    out.mkdir()
    runs.start(out, scenario)
    sites = [SiteData(name, (d.site(name).cohort(plan),)) for name in trained]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        results = {FEDERATED: run_arm(scenario, FEDERATED, sites, out, Silent())}
        some = [site for site in sites if site.name in told]
        results |= {local_arm(s.name): run_arm(scenario, local_arm(s.name), [s], out, Silent()) for s in some}
        return assess(scenario, some, results, out)
    finally:
        torch.set_num_threads(threads)
