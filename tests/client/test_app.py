import shutil

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, RecordDict

from client.app import app
from client.worker import make_context
from common import wire
from common.errors import RefusedError, WireError
from common.models import build_model
from simulation.grid import SequentialGrid
from tests.helpers.plans import small_plan


@pytest.fixture
def site(federation):
    plan = small_plan()
    nodes = federation(plan, 1)
    SequentialGrid(app, nodes)  # sets the identity that Flower's messages need
    return plan, make_context(1, nodes[0])


def ask(kind, context, plan, number=1, **changes):
    weights = {**wire.get_weights(build_model(plan)), **changes.pop("weights", {})}
    config = ConfigRecord({wire.PLAN_SHA256: plan.sha256, wire.ROUND: number, **changes})
    content = RecordDict(
        {wire.CONFIG: config, **({} if kind == "query" else {wire.ARRAYS: wire.pack(weights)})}
    )
    return app(Message(content, 1, kind), context)


def test_a_site_greets_trains_and_evaluates(site):
    plan, context = site
    hello = ask("query", context, plan)
    assert wire.get_text(hello.content, wire.SITE) == "site-0"
    counts = wire.check_numbers(hello.content, wire.query_numbers(plan.findings))
    assert counts[wire.N_TRAIN] + counts[wire.N_VALIDATION] + counts[wire.N_TEST] == 30
    trained = ask("train", context, plan)
    update = wire.Schema.of(build_model(plan)).unpack(wire.get_arrays(trained.content))
    assert 0 < wire.l2_norm(update) < 10
    assert wire.check_numbers(trained.content, wire.TRAIN_NUMBERS)[wire.N_EXAMPLES] == counts[wire.N_TRAIN]
    judged = wire.check_numbers(ask("evaluate", context, plan).content, wire.EVALUATE_NUMBERS)
    assert judged[wire.N_EXAMPLES] == counts[wire.N_VALIDATION]


def test_a_site_forgets_the_round_before(site):
    plan, context = site
    first, second = (ask("train", context, plan).content[wire.ARRAYS] for _ in range(2))
    assert first[wire.PACKED].data == second[wire.PACKED].data


@pytest.mark.parametrize("kind", ["query", "train", "evaluate"])
def test_another_plan_than_the_approved_one_is_refused(site, kind):
    plan, context = site
    with pytest.raises(WireError, match="this site approved"):
        ask(kind, context, plan, **{wire.PLAN_SHA256: small_plan(rounds=9).sha256})


def test_a_control_variate_of_an_older_copy_trains_nothing(federation, tmp_path):
    """The server counted a later one: with the older one the run would be off for good."""
    plan = small_plan(rounds=3, strategy={"name": "SCAFFOLD"}, training={"momentum": 0.0, "batch_size": 4})
    nodes = federation(plan, 1)
    SequentialGrid(app, nodes)
    context = make_context(1, {**nodes[0], "memory": str(tmp_path / "memory")})
    zeros = {f"{wire.CONTROL}{n}": np.zeros_like(w) for n, w in wire.get_weights(build_model(plan)).items()}

    def train(number, answered):
        about = {wire.RUN: "r1", wire.ANSWERED: answered}
        return ask("train", context, plan, number, weights=zeros, **about)

    assert train(1, 0).has_content()
    shutil.copytree(tmp_path / "memory", tmp_path / "copy")
    assert train(2, 1).has_content()
    shutil.rmtree(tmp_path / "memory")
    with pytest.raises(RefusedError, match="control variate of round 2, here lies that of round 0"):
        train(3, 2)
    shutil.copytree(tmp_path / "copy", tmp_path / "memory")
    with pytest.raises(RefusedError, match="an older copy was put back"):
        train(3, 2)
    assert train(2, 1).has_content()
