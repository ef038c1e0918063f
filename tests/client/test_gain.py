"""`client gain` as the hospital meets it: the federated model against its own, with advice."""

import json
import shutil

import pytest

from common.config import load_yaml
from common.credentials import common_name, read_certificate
from common.plan import Plan
from common.results.run import read_result
from server.provision import init_server
from server.settings import ServerFolder, ServerSettings
from simulation.scenario import Machine
from tests.helpers.command import refused
from tests.helpers.local_sites import make_site
from tests.helpers.simulated import run, scenario_of


@pytest.fixture
def place(tmp_path):
    """A simulated federation, and its first hospital as a real one has its folder."""
    out = tmp_path / "run"
    machine = Machine(threads=1, arms=("local_only",))
    run(scenario_of("FedAvg", split={"test": 0.3, "validation": 0.3}, simulation=machine), out)
    server = ServerFolder(tmp_path / "server")
    init_server(server, ServerSettings(host="127.0.0.1"))
    (cohort,) = sorted((out / "cohorts").glob("*-a"))
    site = make_site(tmp_path, cohort.name, server)
    shutil.copytree(cohort, site.cohort(load_yaml(out / "plan.yaml", Plan)))
    site.settings_file.write_text(
        "server: localhost:443\ndevice: cpu\nthreads: 1\npolicy:\n  min_patients: 4\n"
    )
    return out, site


@pytest.mark.slow
def test_a_hospital_s_gain_is_that_of_the_report(here, place, tmp_path):
    out, site = place
    done = here(
        "client", "gain", str(out), "--dir", str(site.path), "--out", str(tmp_path / "gain"), "--json"
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["findings"]["pneumonia"]
    report = read_result(out).sites[site.path.name]
    assert found["auroc"] == report.federated.auroc
    assert found["against"]["auroc"] == report.local_only.auroc
    assert found["against"]["value"] == pytest.approx(report.gain.value)
    assert found["against"]["ci"] == pytest.approx(list(report.gain.ci))
    assert found["against"]["advice"] == report.gain.advice
    assert any("the model is not signed" in warning for warning in json.loads(done.stdout)["warnings"])
    assert "of this hospital (Youden)" in found["threshold_from"]
    page = (tmp_path / "gain" / "evaluation.html").read_text()
    assert "Against this hospital alone" in page
    assert f"how good is it on {common_name(read_certificate(site.certificate))}?" in page
    assert report.gain.advice in page
    said = here("client", "gain", str(out), "--dir", str(site.path), "--out", str(tmp_path / "gain")).stdout
    assert f": {report.gain.advice}" in said


@pytest.mark.slow
def test_too_few_patients_to_train_on_are_said(here, place):
    out, site = place
    site.settings_file.write_text("server: localhost:443\ndevice: cpu\npolicy:\n  min_patients: 900\n")
    refused(
        here("client", "gain", str(out), "--dir", str(site.path)),
        "training patients, the plan's minimum is 900",
    )


@pytest.mark.slow
def test_without_a_cohort_it_says_what_to_do(here, place):
    out, site = place
    shutil.rmtree(site.cohorts)
    refused(here("client", "gain", str(out), "--dir", str(site.path)), "run: pneumofed client ingest")
