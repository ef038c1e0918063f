import os

import numpy as np
import pytest
from flwr.app import ConfigRecord, RecordDict

from client.site import Site
from client.worker import make_context
from common import wire
from common.errors import DataError, WireError
from common.models import build_model
from tests.helpers.cohorts import make_cohort
from tests.helpers.plans import small_plan

PLAN = small_plan()
WEIGHTS = wire.get_weights(build_model(PLAN))


@pytest.fixture
def node(federation):
    return federation(PLAN, 1)[0]


def site_of(node, **changes):
    return Site.of(make_context(1, {**node, **changes}))


def request(number=1, weights=WEIGHTS, plan=PLAN):
    config = ConfigRecord({wire.PLAN_SHA256: plan.sha256, wire.RUN: "r1", wire.ROUND: number})
    return RecordDict({wire.CONFIG: config, wire.ARRAYS: wire.pack(weights)})


def test_weights_come_as_they_were_sent_for_a_round_of_the_approved_plan_alone(node):
    site = site_of(node)
    received = site.weights_in(request())
    assert all(np.array_equal(received[name], WEIGHTS[name]) for name in WEIGHTS)
    assert site.weights_in(request(0), first=0).keys() == WEIGHTS.keys()
    for number in (0, PLAN.rounds + 1):
        with pytest.raises(WireError, match="round"):
            site.weights_in(request(number))
    with pytest.raises(WireError, match="this site approved"):
        site.weights_in(request(plan=small_plan(rounds=9)))


def test_rubbish_weights_are_refused(node):
    rubbish = {**WEIGHTS, "scale": np.array([np.nan], np.float32)}
    with pytest.raises(WireError, match="NaN"):
        site_of(node).weights_in(request(weights=rubbish))


def test_a_site_stays_warm_until_its_cohort_is_another_one(node):
    """A patient who was forgotten is in no answer that leaves later."""
    site, context = site_of(node), make_context(1, node)
    assert Site.of(context) is site
    written = site.config.cohorts[0] / "cohort.json"
    os.utime(written, ns=(0, written.stat().st_mtime_ns + 1))
    assert Site.of(context) is not site
    assert Site.of(context).model is site.model


def test_a_cohort_of_another_contract_is_refused(federation, tmp_path):
    (node,) = federation(small_plan(findings=("other",)), 1)
    with pytest.raises(DataError, match="ingest it again"):
        site_of(node, cohorts=str(make_cohort(tmp_path / "wrong", 30)))


def test_a_codec_needs_a_folder(federation, tmp_path):
    plan = small_plan(codec={"name": "int8"})
    (node,) = federation(plan, 1)
    with pytest.raises(DataError, match="the codec int8, and the node no folder"):
        site_of(node).coded_run(request(plan=plan))
    run = site_of(node, memory=str(tmp_path)).coded_run(request(plan=plan))
    assert run.folder == tmp_path / "r1"
    assert run.holds()  # the weights that the plan begins with
