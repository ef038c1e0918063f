import json
import shutil

import pytest
import yaml
from safetensors.numpy import save_file

from client.governance.approval import Approvals
from client.governance.ledger import Ledger, Purpose
from client.settings import SiteFolder
from common.config import load_yaml
from common.models import build_model
from common.wire import get_weights
from simulation.scenario import Scenario
from tests.helpers.machines import audit_privacy
from tests.helpers.plans import PRIVATE


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
    typed = audit_privacy(
        "DIR", DIR="site", HASH=plan.sha256[:8], **{"model.safetensors": "run/model.safetensors"}
    )
    done = here(*typed, "--canaries", "20", "--out", "found")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found" / "audit.json").read_text())
    assert 0.0 <= found["membership"]["auroc"]["value"] <= 1.0
    without = here(*typed[: typed.index("--model")], "--canaries", "20", "--json")
    assert json.loads(without.stdout)["membership"] is None
    assert 0.0 < found["epsilon_in_ledger"] < found["epsilon_of_run"]
    assert len(Ledger(folder.ledger).history()) == 1  # what was trained here did not leave, and costs nothing
    assert "at most" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["run", "--site", "hospital-z"], "found 'hospital-z', the run has hospital-a, hospital-b"),
        (["personal"], "strategy FedPer: the head stays at the site"),
        (["pretrained"], "model.pretrained: the attacks train from the weights of the plan's seed"),
        (["nowhere"], "neither a simulated run nor a hospital's folder"),
        (["run", "--model", "plan.yaml"], "not a readable model"),
    ],
)
def test_rubbish_is_one_line(here, tmp_path, arguments, problem):
    (tmp_path / "run" / "cohorts" / "hospital-a").mkdir(parents=True)
    (tmp_path / "run" / "cohorts" / "hospital-b").mkdir()
    (tmp_path / "run" / "scenario.yaml").write_text(yaml.safe_dump(PRIVATE))
    (tmp_path / "run" / "metrics.json").write_text("{}")
    shutil.copytree(tmp_path / "run", tmp_path / "personal")
    plain = {k: v for k, v in PRIVATE.items() if k != "privacy"}
    given = {**plain, "strategy": {"name": "FedPer"}}
    (tmp_path / "personal" / "scenario.yaml").write_text(yaml.safe_dump(given))
    shutil.copytree(tmp_path / "run", tmp_path / "pretrained")
    given = {
        **PRIVATE,
        "model": {**PRIVATE["model"], "pretrained": "0" * 64},
        "simulation": {**PRIVATE["simulation"], "pretrained": "weights.safetensors"},
    }
    (tmp_path / "pretrained" / "scenario.yaml").write_text(yaml.safe_dump(given))
    weights = get_weights(build_model(load_yaml(tmp_path / "personal" / "scenario.yaml", Scenario).plan))
    save_file(weights, tmp_path / "personal" / "model.safetensors")
    save_file(weights, tmp_path / "pretrained" / "model.safetensors")
    (tmp_path / "plan.yaml").write_text("name: private\n")
    done = here("audit-privacy", *arguments)
    assert done.returncode == 2
    assert problem in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
