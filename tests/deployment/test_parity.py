"""Simulation and deployment are one program: the same weights, bit for bit."""

import hashlib
import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from client.imaging.cohort import Cohort
from common import wire
from common.arms import FEDERATED, local_arm
from common.config import dump_yaml
from common.handover import read_model
from common.models import build_model
from common.plan import Input, Plan
from common.results.form import to_text
from server.observer import Silent
from simulation import runs
from simulation.assess import assess
from simulation.scenario import Machine, Scenario
from simulation.simulate import run_arm
from simulation.sites import SiteData
from tests.helpers.dicom import image, save
from tests.helpers.plans import deployed_plan
from tests.helpers.runs import simulated


@pytest.mark.slow
@pytest.mark.parametrize(("codec", "n"), [("none", 3), ("int4", 2)])
def test_sites_on_loopback_end_with_the_weights_of_the_simulation(deployment, tmp_path, codec, n):
    plan = deployed_plan(rounds=3, codec={"name": codec})
    d = deployment(n, plan, curves=["tensorboard"])
    names = ["site-1", "site-2", "site-3"][:n]
    d.set("site-1", curves=["tensorboard"])
    d.up(*names)
    name = d.run()
    history = d.wait_finished(name)
    assert [sorted(report["sites"]) for report in history] == [names] * 3
    expected, found = simulated(d, plan, tmp_path, names), d.weights(name)
    assert expected.keys() == found.keys()
    assert all(np.array_equal(expected[k], found[k]) for k in expected)
    assert not any(report["failed"] for report in history)
    assert all(
        list(place.rglob("events.*"))
        for place in (d.server.curves / "tensorboard" / name, d.site("site-1").curves)
    )
    assert not d.site("site-2").curves.exists()
    assert len((d.server.runs / name / "history.csv").read_text().splitlines()) == 1 + 3 * n
    n_bytes = sum(report["bytes_down"] + report["bytes_up"] for report in history)
    whole = 3 * n * 3 * sum(w.nbytes for w in found.values())  # rounds, sites, twice down and once up
    low, high = (0.1, 0.3) if codec == "int4" else (1.0, 1.2)
    assert low * whole < n_bytes < high * whole


def write_visits(folder, seed, patients=24):
    """DICOM files of patients who change, three visits each, with a label a study; a positive visit is
    bright in a corner."""
    rng, rows = np.random.default_rng(seed), ["study,pneumonia"]
    folder.mkdir()
    for p in range(patients):
        for day in (1, 4, 9):
            pixels, label = rng.integers(0, 2000, (16, 16)).astype(np.uint16), int(rng.integers(2))
            pixels[:6, :6] += np.uint16(2000 * label)
            study = f"1.2.{seed}.{p}.{day}"
            ds = image(pixels, PatientID=f"P{p}", AcquisitionDate=f"202401{day:02d}", StudyInstanceUID=study)
            save(ds, folder / f"{p}-{day}.dcm")
            rows.append(f"{study},{label}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")


@pytest.mark.slow
def test_labels_of_visits_are_ingested_by_hospitals_and_train_the_same_bits(deployment, tmp_path):
    plan = deployed_plan(rounds=2, input=Input(size=16, max_frames=2, label="visit"))
    d = deployment(2, plan)
    names = ["site-1", "site-2"]
    for seed, name in enumerate(names):
        write_visits(tmp_path / name, seed)
        d.set(name, data={"dicom": str(tmp_path / name)})
        d.at(name, "ingest", str(d.write_plan()))
        cohort = Cohort.open(d.site(name).cohort(plan))
        assert (len(cohort), cohort.n_images, int(cohort.lengths.max())) == (72, 72, 2)
    labels = tmp_path / "labels.csv"
    labels.write_text("patient,pneumonia\nP0,1\n")
    d.set("site-2", data={"dicom": str(tmp_path / "site-2"), "labels": str(labels)})
    refused = d.command("client", "ingest", str(d.write_plan()), "--dir", str(d.site("site-2").path))
    assert refused.returncode == 2
    assert "found labels of patients, the plan learns those of visits" in refused.stderr
    d.up(*names)
    name = d.run()
    d.wait_finished(name)
    expected, found = simulated(d, plan, tmp_path, names), d.weights(name)
    assert all(np.array_equal(expected[k], found[k]) for k in expected)


@pytest.mark.slow
def test_the_federation_s_report_is_the_simulation_s(deployment, tmp_path):
    """A hospital's own scores and gain are identical; what is pooled from cells of five patients is within
    0.002."""
    plan = deployed_plan(
        rounds=4, split={"validation": 0.2, "test": 0.5}, training={"batch_size": 4, "learning_rate": 1.0},
        evaluation={"final": True, "alone": True, "cross": 2, "select": "best"},
    )  # fmt: skip
    d = deployment(3, plan)
    names = ["site-1", "site-2", "site-3"]
    for name in names:
        d.make_cohort(name, 400)
        d.set(name, policy={"final": name != "site-3", "cross": True, "min_patients": 5})
    d.up(*names)
    name = d.run()
    d.wait_finished(name)
    told = json.loads(d.ask("report", name, "--json"))
    assert (d.server.runs / name / "report.html").is_file()
    assert told["silent"] == {"site-3": "this site's policy keeps its final scores (policy.final)"}

    expected = judged(d, plan, tmp_path, names, names[:2])
    written = json.loads(to_text(expected))["sites"]
    for site in names[:2]:
        ours, theirs = told["sites"][site], expected.sites[site]
        for arm in ("federated", "local_only"):
            for score in ("auroc", "auprc", "sensitivity", "brier", "ece"):
                for told_of in (score, f"{score}_ci"):
                    assert ours[arm][told_of] == written[site][arm][told_of]
        assert ours["gain"]["value"] == theirs.gain.value
        assert ours["split"] == theirs.split
        assert ours["federated"]["accuracy"] == pytest.approx(theirs.federated.accuracy, abs=0.02)
    assert told["matrix"] == json.loads(to_text(expected))["matrix"]  # with models that were trained alone
    assert not list((d.server.runs / name).glob("alone-*"))
    assert told["chosen"] == expected.chosen < plan.rounds  # the case is one: a later round was worse
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


@pytest.mark.slow
def test_a_model_is_judged_at_three_hospitals_and_trained_further_by_its_hash(deployment, tmp_path):
    """Rounds 0: nothing is trained, whoever approves late is waited for; then the same model goes on, with
    adapters beside what stays."""
    trained = make_model(tmp_path / "given", deployed_plan(seed=1))
    hash_of = hashlib.sha256((trained / "model.safetensors").read_bytes()).hexdigest()
    judge = deployed_plan(rounds=0, model=small_model(hash_of), evaluation={"final": True})
    d = deployment(2, judge)
    names = ["site-1", "site-2"]
    for name in names:
        d.make_cohort(name, 150)
        d.set(name, policy={"final": True, "min_patients": 5})
    d.up(*names)
    name = d.ask("run", str(d.write_plan()), "--pretrained", str(trained)).split()[1]
    assert d.wait_finished(name) == []
    told = json.loads(d.ask("report", name, "--json"))
    assert sorted(told["sites"]) == names
    before = load_file(trained / "model.safetensors")
    assert all(np.array_equal(d.weights(name)[key], before[key]) for key in before)
    assert {entry["kind"] for entry in d.audit("site-1") if entry["event"] == "sent"} == {
        "query",
        "evaluate.final",
    }

    further = deployed_plan(rounds=1, model=small_model(hash_of, adapters=2))
    d.approve(*names, plan=further)
    (d.path / "plan.yaml").write_text(dump_yaml(further))
    name = d.ask(
        "run", str(d.path / "plan.yaml"), "--pretrained", str(trained / "model.safetensors")
    ).split()[1]
    d.wait_finished(name)
    after = d.weights(name)
    moved = {key: np.abs(after[key] - before[key]).max() for key in before}
    assert 0 < max(moved.values()) < 0.5
    assert {key for key, by in moved.items() if by == 0} == {k for k in before if ".features." in k}
    assert all(after[key].any() for key in after.keys() - before.keys())  # adapters moved away from zero
    d.ask("export", name, "--out", str(tmp_path / "model"))
    assert read_model(tmp_path / "model").plan == further
    limits = json.loads((tmp_path / "model" / "card.json").read_text())["limits"]
    assert any(hash_of[:12] in limit for limit in limits)
    done = d.command("server", "run", str(d.write_plan()), "--dir", str(d.server.path))
    assert done.returncode == 2
    assert "model.pretrained: found no file" in done.stderr


def small_model(pretrained, **more):
    return {**deployed_plan().model.model_dump(), "pretrained": pretrained, **more}


def make_model(folder, plan):
    """A model's folder, as it is handed over but for its card."""
    folder.mkdir()
    (folder / "plan.yaml").write_text(dump_yaml(plan))
    save_file(wire.get_weights(build_model(plan)), folder / "model.safetensors", metadata={"rounds": "9"})
    return folder
