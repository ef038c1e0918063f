"""A simulation under a plan with privacy, from the command to the report."""

import json

import pytest
import yaml

from client.governance.accounting import epsilon
from client.governance.ledger import Ledger
from tests.helpers.plans import PRIVATE


@pytest.mark.slow
def test_a_private_simulation_reports_and_pays_what_it_planned(here, tmp_path):
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(PRIVATE))
    done = here("simulate", "plan.yaml", "--out", "run", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert 0.0 <= result["test"]["federated"]["auroc"] <= 1.0
    report = (tmp_path / "run" / "report.html").read_text()
    assert ">kept</td>" in report
    assert 7.8 < result["epsilon"] <= 8.02
    assert f"ε = {result['epsilon']:.2f}" in report
    assert "agreed: ε = 8; δ = 0.001" in report
    ((noise, rate, _), *more) = Ledger(tmp_path / "run/arms/federated/ledger-hospital-a.sqlite").history()
    assert len(more) == 2
    assert 7.8 < epsilon([(noise, rate, 12)], 1e-3) <= 8.02
    assert not list((tmp_path / "run/arms/local-hospital-a").glob("ledger-*"))  # nobody to hide anything from


@pytest.mark.slow
def test_a_plan_whose_delta_is_too_large_for_a_site_is_refused(here, tmp_path):
    (tmp_path / "plan.yaml").write_text(
        yaml.safe_dump({**PRIVATE, "privacy": {"epsilon": 8.0, "delta": 0.5}})
    )
    done = here("simulate", "plan.yaml", "--out", "run")
    assert done.returncode == 2
    assert "privacy.delta is not below one over" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("pneumofed: ")


@pytest.mark.slow
def test_what_a_noise_multiplier_spends_is_told_too(here, tmp_path):
    privacy = {"noise_multiplier": 1.1, "delta": 0.001, "steps": PRIVATE["privacy"]["steps"]}
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump({**PRIVATE, "privacy": privacy}))
    done = here("simulate", "plan.yaml", "--out", "run", "--json")
    assert done.returncode == 0, done.stderr
    spent = json.loads(done.stdout)["epsilon"]
    history = Ledger(tmp_path / "run/arms/federated/ledger-hospital-a.sqlite").history()
    assert spent >= epsilon(history, 0.001) > 0
    report = (tmp_path / "run" / "report.html").read_text()
    assert f"ε = {spent:.2f}" in report
    assert "agreed: a noise multiplier of 1.1" in report
