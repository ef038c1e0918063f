"""`pneumofed audit-privacy` from a simulated run, and from a hospital's folder, to a page that a browser
shows."""

import json
import subprocess

import pytest
import yaml

from client.governance.approval import Approvals
from client.governance.ledger import Ledger, Purpose
from client.settings import SiteFolder
from common.config import load_yaml
from simulation.scenario import Scenario
from tests.helpers.plans import PRIVATE
from tests.helpers.tools import require_tool


@pytest.fixture
def run(here, tmp_path):
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump({**PRIVATE, "simulation": {"arms": []}}))
    assert here("simulate", "plan.yaml", "--out", "run").returncode == 0
    return tmp_path / "run"


@pytest.mark.slow
def test_a_private_run_is_audited_and_shown(run, here, tmp_path):
    done = here("audit-privacy", "run", "--site", "hospital-b", "--canaries", "40", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["site"] == "hospital-b"
    assert found["private"]["epsilon_at_least"] <= found["epsilon_of_run"] == pytest.approx(8.0, abs=0.1)
    assert found["epsilon_in_ledger"] == pytest.approx(found["epsilon_of_run"], abs=1e-6)
    assert found["private"]["canaries"] == found["plain"]["canaries"] == 40
    assert 0.0 <= found["membership"]["auroc"]["value"] <= 1.0
    assert abs(found["inversion"]["private"]) < 0.5
    assert json.loads((run / "privacy-audit" / "audit.json").read_text()) == found
    page = (run / "privacy-audit" / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    assert "It stays at the site" in page
    chromium = require_tool("chromium")
    shot = tmp_path / "shot.png"
    subprocess.run(
        [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=390,2000", f"--screenshot={shot}",
         f"file://{run / 'privacy-audit' / 'report.html'}"], check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    assert shot.stat().st_size > 10_000


@pytest.mark.slow
def test_a_hospital_audits_a_plan_that_it_knows(run, here, tmp_path):
    plan = load_yaml(run / "scenario.yaml", Scenario).plan
    folder = SiteFolder(tmp_path / "site")
    folder.path.mkdir()
    folder.settings_file.write_text("server: localhost:443\n")
    Approvals(folder.plans).propose(plan.model_dump(mode="json"), plan.sha256)
    folder.cohorts.mkdir()
    (run / "cohorts" / "hospital-a").rename(folder.cohort(plan))
    Ledger(folder.ledger).reserve(["p"], Purpose(plan.sha256, "r", 1), (1.0, 0.1, 10), None)
    done = here("audit-privacy", "site", "--plan", plan.sha256[:8], "--canaries", "20", "--out", "found")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found" / "audit.json").read_text())
    assert found["membership"] is None
    assert 0.0 < found["epsilon_in_ledger"] < found["epsilon_of_run"]
    assert len(Ledger(folder.ledger).history()) == 1  # what was trained here did not leave, and costs nothing
    assert "at most" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["run", "--site", "hospital-z"], "found 'hospital-z', the run has hospital-a, hospital-b"),
        (["nowhere"], "neither a simulated run nor a hospital's folder"),
        (["run", "--model", "plan.yaml"], "not a readable model"),
    ],
)
def test_rubbish_is_one_line(here, tmp_path, arguments, problem):
    (tmp_path / "run" / "cohorts" / "hospital-a").mkdir(parents=True)
    (tmp_path / "run" / "cohorts" / "hospital-b").mkdir()
    (tmp_path / "run" / "scenario.yaml").write_text(yaml.safe_dump(PRIVATE))
    (tmp_path / "run" / "metrics.json").write_text("{}")
    (tmp_path / "plan.yaml").write_text("name: private\n")
    done = here("audit-privacy", *arguments)
    assert done.returncode == 2
    assert problem in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
