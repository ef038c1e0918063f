"""What a private plan costs is known before it is approved: the same as the ledger says afterwards."""

import pytest

from client.forecast import forecast
from client.governance.accounting import RoundCost, epsilon
from client.governance.approval import Approvals
from client.governance.ledger import Budget, Ledger, Purpose, summary
from client.imaging.cohort import Cohort
from common.plan import Privacy
from server.provision import init_server
from server.settings import ServerFolder, ServerSettings
from tests.helpers.cohorts import make_cohort
from tests.helpers.command import refused
from tests.helpers.local_sites import make_site
from tests.helpers.plans import small_plan

PLAN = small_plan(rounds=3, privacy=Privacy(epsilon=3.0, delta=1e-5, steps=4))


@pytest.fixture
def site(tmp_path):
    server = ServerFolder(tmp_path / "server")
    init_server(server, ServerSettings(host="127.0.0.1"))
    site = make_site(tmp_path, "north", server)
    site.settings_file.write_text("server: localhost:443\npolicy: {epsilon: 3.5, min_patients: 4}\n")
    Approvals(site.plans).propose(PLAN.model_dump(mode="json"), PLAN.sha256)
    return site


def test_without_privacy_or_a_cohort_there_is_none(site):
    assert forecast(site, PLAN) is None
    make_cohort(site.cohort(PLAN), 60)
    assert forecast(site, small_plan()) is None


@pytest.mark.slow
def test_it_is_what_the_ledger_has_afterwards(site):
    make_cohort(site.cohort(PLAN), 60)
    expected = forecast(site, PLAN)
    assert expected is not None
    assert expected.cost == pytest.approx(3.0, abs=0.02)
    assert expected.after == expected.cost
    assert not expected.too_much
    cohort = Cohort.open(site.cohort(PLAN))
    patients = sorted(set(cohort.patients[cohort.split(PLAN.split)["train"]].tolist()))
    cost, ledger = RoundCost.of(PLAN, len(patients)), Ledger(site.ledger)
    for number in (1, 2, 3):
        steps = (cost.noise, cost.sample_rate, cost.steps)
        ledger.settle(
            ledger.reserve(patients, Purpose(PLAN.sha256, "r1", number), steps, Budget(3.5, 1e-5)), cost.steps
        )
    assert summary(ledger, Budget(3.5, 1e-5)).epsilon_spent == pytest.approx(expected.after, rel=1e-6)
    again = forecast(site, PLAN)
    assert again is not None
    assert again.too_much
    assert again.after > expected.after + 0.5


@pytest.mark.slow
def test_a_plan_over_the_budget_is_not_approved(here, site):
    make_cohort(site.cohort(PLAN), 60)
    at = ("--dir", str(site.path))
    assert "Privacy: a run costs each patient epsilon 3.0" in here("client", "pending", *at).stdout
    words = ("client", "approve", PLAN.sha256[:12], *at)
    refused(here(*words, "--runs", "2"), "which this site's policy does not allow", "approve fewer runs")
    done = here(*words, "--until", "2100-01-31")
    assert done.returncode == 0, done.stderr
    assert "for 1 run in all, until 2100-01-31" in done.stdout


@pytest.mark.slow
def test_validation_patients_pay_for_a_threshold_and_nobody_for_both(site):
    told = small_plan(rounds=3, privacy=Privacy(epsilon=3.0, delta=1e-5, steps=4, threshold=True))
    make_cohort(site.cohort(told), 60)
    expected = forecast(site, told)
    assert expected is not None
    assert 2.9 < expected.cost == expected.after < 3.05
    assert forecast(site, told, 2).cost > expected.cost + 0.5
    dear = told.privacy.model_copy(update={"epsilon": None, "noise_multiplier": 1.0})
    one = RoundCost.of_scores(told.model_copy(update={"privacy": dear}), 9)
    assert one.history == (1.0, 1.0, 1)
    least = forecast(site, told.model_copy(update={"privacy": dear}))
    assert least is not None
    assert least.cost >= epsilon([one.history], 1e-5)
