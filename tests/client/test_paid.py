"""A plan with privacy through the ClientApp, as a site's worker answers it."""

import math

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from client.app import app
from client.governance.accounting import epsilon
from client.governance.egress import check_reply
from client.governance.ledger import Ledger
from client.governance.policy import Policy
from client.worker import answer, make_context
from common import soft_counts, wire
from common.errors import WireError
from common.models import build_model
from common.plan import Codec, Privacy, Training
from tests.helpers.plans import small_plan

PLAN = small_plan(
    rounds=4, privacy=Privacy(noise_multiplier=1.0, delta=1e-3, steps=3), training=Training(batch_size=8)
)


@pytest.fixture
def site(federation, tmp_path):
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
    ledger = tmp_path / "ledger.sqlite"

    def context(**more):
        (node,) = federation(PLAN, 1, 40)
        return make_context(1, {**node, "ledger": str(ledger), **more})

    return context, Ledger(ledger)


def ask(context, kind, number=1, plan=PLAN):
    config = ConfigRecord(
        {wire.PLAN_SHA256: plan.sha256, wire.RUN: "r1", **({} if kind == "query" else {wire.ROUND: number})}
    )
    content = RecordDict({wire.CONFIG: config})
    if kind != "query":
        content[wire.ARRAYS] = wire.pack(wire.get_weights(build_model(plan)))
    message = Message(content, 1, kind)
    message.metadata.__dict__["_message_id"] = "m"
    return answer(app, message, context)


def passes(kind, reply, plan=PLAN):
    return check_reply(kind, reply.content, wire.Schema.of(build_model(plan)), Policy(), plan)


def test_a_round_is_in_the_ledger_and_tells_nothing_about_the_patients(site):
    context, ledger = site
    reply = ask(context(), "train")
    numbers = wire.check_numbers(passes("train", reply), wire.TRAIN_NUMBERS)
    assert numbers[wire.N_EXAMPLES] == wire.PRIVATE_WEIGHT
    assert math.isnan(numbers[wire.LOSS])
    assert math.isnan(numbers[wire.SECONDS])
    assert numbers[wire.STEPS] == 3
    ((noise, rate, steps),) = ledger.history()
    assert (noise, steps) == (1.0, 3)
    assert 0.2 < rate < 0.5
    counts = wire.check_numbers(passes("query", ask(context(), "query")), wire.query_numbers(PLAN.findings))
    assert all(math.isnan(counts[name]) for name in wire.query_numbers(PLAN.findings))
    refused = ask(context(), "evaluate")
    assert refused.error.code == wire.SITE_REFUSES
    assert "without noise" in refused.error.reason


def test_the_noisy_counts_of_the_last_model_are_paid_for_and_pass_alone(federation, tmp_path):
    plan = small_plan(rounds=4, privacy={**PLAN.privacy.model_dump(), "threshold": True})
    ledger = Ledger(tmp_path / "ledger.sqlite")
    (node,) = federation(plan, 1, 40)
    tight = {"budget-epsilon": 0.01, "budget-delta": 1e-3}
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
    context, poor = (
        make_context(1, {**node, "ledger": str(tmp_path / "ledger.sqlite"), **m}) for m in ({}, tight)
    )
    assert "without noise" in ask(context, "evaluate", 3, plan).error.reason
    assert "privacy budget" in ask(poor, "evaluate", 4, plan).error.reason
    assert not ledger.history()
    reply = ask(context, "evaluate", 4, plan)
    numbers = wire.check_numbers(passes("evaluate", reply, plan), wire.evaluate_numbers(plan))
    assert numbers[wire.N_EXAMPLES] == wire.PRIVATE_WEIGHT
    assert numbers[soft_counts.NOISE] == 1.0
    assert ledger.history() == [(1.0, 1.0, 1)]
    assert ledger.runs()[0].settled_steps == 1
    again = ask(context, "evaluate", 4, plan)
    assert (
        again.content.object_id != reply.content.object_id
    )  # what was told first leaves: the gate sees to it
    assert len(ledger.history()) == 2
    reply.content.metric_records[wire.METRICS][wire.LOSS] = 0.5
    with pytest.raises(WireError, match="found the numbers"):
        passes("evaluate", reply, plan)


@pytest.mark.slow
def test_a_site_whose_budget_is_spent_declines_and_says_so(site):
    context, ledger = site
    assert not ask(context(), "train", 1).has_error()
    one = epsilon(ledger.history(), 1e-3)
    two = epsilon([*ledger.history(), *ledger.history()], 1e-3)
    tight = {"budget-epsilon": (one + two) / 2, "budget-delta": 1e-3}
    declined = ask(context(**tight), "train", 2)
    assert declined.error.code == wire.SITE_REFUSES
    assert "privacy budget" in declined.error.reason
    assert len(ledger.history()) == 1
    enough = {"budget-epsilon": two + 0.1, "budget-delta": 1e-3}
    assert not ask(context(**enough), "train", 2).has_error()


def test_numbers_about_patients_do_not_leave_under_a_private_plan(site):
    context, _ = site
    reply = ask(context(), "train")
    for name, value in ((wire.LOSS, 0.5), (wire.SECONDS, 1.0), (wire.N_EXAMPLES, 28)):
        before = reply.content.metric_records[wire.METRICS][name]
        reply.content.metric_records[wire.METRICS][name] = value
        with pytest.raises(WireError, match="numbers about patients"):
            passes("train", reply)
        reply.content.metric_records[wire.METRICS][name] = before
    passes("train", reply)


def test_a_ledger_that_cannot_be_read_stops_training(site):
    context, _ = site
    node = context()
    with open(node.node_config["ledger"], "wb") as file:
        file.write(b"rubbish" * 1000)
    assert ask(node, "train").error.code == wire.SITE_FAILS


@pytest.mark.slow
def test_the_federation_goes_on_without_a_site_whose_budget_is_spent(federation, tmp_path):
    from common.plan import Federation
    from server.observer import Silent
    from server.rounds import RoundLoop
    from simulation.grid import SequentialGrid

    plan = small_plan(
        rounds=3, privacy=Privacy(noise_multiplier=1.0, delta=1e-3, steps=2), training=Training(batch_size=8),
        federation=Federation(quorum=0.6),
    )  # fmt: skip
    nodes = [
        {**node, "ledger": str(tmp_path / f"{k}.sqlite")} for k, node in enumerate(federation(plan, 3, 40))
    ]
    nodes[1] |= {
        "budget-epsilon": epsilon([(1.0, 0.3, 3)], 1e-3),
        "budget-delta": 1e-3,
    }  # for one round, not for two
    model = build_model(plan)
    done = RoundLoop(SequentialGrid(app, nodes), plan, wire.Schema.of(model), tmp_path / "run", Silent()).run(
        wire.get_weights(model)
    )
    assert [sorted(r.sites) for r in done.history] == [
        ["site-0", "site-1", "site-2"],
        *[["site-0", "site-2"]] * 2,
    ]
    assert "privacy budget" in done.history[1].failed["site-1"]
    assert all(r.evaluation is None for r in done.history)


@pytest.mark.slow
def test_under_a_codec_the_noise_comes_first_and_the_account_is_the_same(federation, tmp_path):
    from server.observer import Silent
    from server.rounds import RoundLoop
    from simulation.grid import SequentialGrid

    spent, norms = [], []
    for codec in ("none", "int4"):
        plan = PLAN.model_copy(update={"codec": Codec(name=codec)})
        nodes = [
            {
                **node,
                "ledger": str(tmp_path / f"{codec}-{k}.sqlite"),
                "memory": str(tmp_path / f"{codec}-{k}"),
            }
            for k, node in enumerate(federation(plan, 2, 40))
        ]
        model = build_model(plan)
        grid, schema = SequentialGrid(app, nodes), wire.Schema.of(model)
        done = RoundLoop(grid, plan, schema, tmp_path / codec, Silent()).run(wire.get_weights(model))
        assert not any(report.failed for report in done.history)
        norms.append([numbers["update_norm"] for report in done.history for numbers in report.sites.values()])
        spent.append([Ledger(tmp_path / f"{codec}-{k}.sqlite").history() for k in range(2)])
    assert spent[0] == spent[1]
    # Noise of this size is most of an update: rounding to 15 levels adds a little, the noise is there all the same.
    assert norms[1] == pytest.approx(norms[0], rel=0.5)
