"""Secure aggregation between real processes: the plain simulation's weights, through kill -9 of either side."""

import os
import signal
import time

import pytest

from common.plan import Aggregation, Codec, Federation
from tests.helpers.deployment import wait_for
from tests.helpers.faults import NAMES, same, slow_plan, training_round, worker_of
from tests.helpers.runs import simulated
from tests.helpers.secure import introduce_all

pytestmark = pytest.mark.slow


def secured(deployment, **changes):
    plan = slow_plan(aggregation={"secure": True, "threshold": 2}, **changes)
    d = deployment(3, plan)
    introduce_all(d, *NAMES)
    return d


@pytest.mark.parametrize("codec", ["none", "int8"])
def test_the_weights_are_the_simulation_s_though_the_server_was_killed(deployment, tmp_path, codec):
    """With a codec that of the same plan, without one that of the plan without masks too."""
    federation = Federation(quorum=1.0, deadline_s=120.0)
    d = secured(deployment, rounds=2, federation=federation, codec=Codec(name=codec))
    d.up(*NAMES)
    name = d.run()
    wait_for("round 2 at a site", lambda: training_round(d, "site-2", 2))
    d.kill("server")
    time.sleep(1.0)
    d.start("server")
    d.ask("resume", name)
    history = d.wait_finished(name)
    assert [sorted(r["sites"]) for r in history] == [NAMES] * 2
    plain = d.plan.model_copy(update={"aggregation": Aggregation()}) if codec == "none" else d.plan
    for site in NAMES:  # the cohorts are the same, whatever the plan
        assert d.site(site).cohort(plain) == d.site(site).cohort(d.plan)
    assert same(d.weights(name), simulated(d, plain, tmp_path, NAMES))


def test_a_site_killed_while_it_trains_costs_its_update_alone(deployment):
    """Its peers have put masks on for it, and take them off."""
    d = secured(deployment, rounds=3, federation=Federation(quorum=0.5, deadline_s=60.0))
    d.up(*NAMES)
    name = d.run()
    wait_for("round 2 at site-3", lambda: training_round(d, "site-3", 2))
    os.kill(worker_of(d, "site-3"), signal.SIGKILL)
    history = d.wait_finished(name)
    assert [sorted(r["sites"]) for r in history] == [NAMES, NAMES[:2], NAMES]
    assert "training failed" in history[1]["failed"]["site-3"]
    assert all(r["sites"]["site-1"]["update_norm"] is None for r in history)
    kinds = {entry["kind"] for entry in d.audit("site-1") if entry["event"] == "sent"}
    assert {"train.keys", "train.shares", "train", "train.agree", "train.unmask"} <= kinds
