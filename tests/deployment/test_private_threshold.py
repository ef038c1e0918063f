"""Noisy counts of validation patients (privacy.threshold) in a deployed federation."""

import json

import pytest

from client.imaging.cohort import Cohort
from common import soft_counts, wire
from common.plan import Privacy
from tests.helpers.plans import deployed_plan


@pytest.mark.slow
def test_noisy_counts_cross_once_are_paid_for_and_a_site_without_budget_keeps_them(deployment):
    """site-2 may train (epsilon 1.3 at most) and may not tell its counts (3.1)."""
    privacy = Privacy(noise_multiplier=1.0, delta=1e-3, steps=1, threshold=True)
    plan = deployed_plan(rounds=2, privacy=privacy, split={"validation": 0.5}, training={"batch_size": 4})
    d = deployment(2, plan)
    names = ["site-1", "site-2"]
    for name, most in zip(names, (8.0, 2.0), strict=True):
        d.make_cohort(name, 80)
        d.set(name, policy={"epsilon": most, "delta": 1e-3})
    d.up(*names)
    name = d.run()
    first, last = d.wait_finished(name)
    assert first["evaluation"] is None
    assert sorted(last["sites"]) == names
    told = last["evaluation"]
    assert "privacy budget" in told["failed"]["site-2"]
    (sent,) = [e for e in d.audit("site-1") if e["event"] == "sent" and e["kind"] == "evaluate"]
    assert sent["numbers"] == told["sites"]["site-1"]
    assert sent["numbers"][wire.N_EXAMPLES] == wire.PRIVATE_WEIGHT
    cohort = Cohort.open(d.site("site-1").cohort(plan))
    n = cohort.count_patients(cohort.split(plan.split)["validation"])
    counts = soft_counts.from_numbers(sent["numbers"], plan.findings)
    assert sent["numbers"][soft_counts.NOISE] == 1.0
    assert counts.sum() == pytest.approx(n, abs=6 * 6**0.5)
    for site, steps in zip(names, (3, 2), strict=True):
        (run,) = json.loads(d.at(site, "ledger", "--json"))["runs"]
        assert (run["settled_steps"], run["reserved_steps"]) == (steps, 0)
    d.ask("export", name, "--out", str(d.path / "model"))
