"""Kind 2: one hospital counts as one hospital. One of five sends what it likes; the other four are not moved by it."""

import math
from collections import Counter
from itertools import count

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common import wire
from common.plan import Federation
from server.observer import Silent
from server.rounds import RoundLoop
from tests.helpers.grids import SCHEMA, START, ScriptedGrid, reply, update
from tests.helpers.plans import small_plan

HOSTILE = 3


def run(folder, attack, **grid):
    """The checkpoint of a run in which one site of five answers by `attack`."""

    def script(node, message):
        number = wire.get_round(message.content)
        return attack(message, number) if node == HOSTILE else reply(message, update(node, number))

    plan = small_plan(federation=Federation(quorum=0.8, deadline_s=5.0), rounds=2)
    return RoundLoop(ScriptedGrid(script, **grid), plan, SCHEMA, folder, Silent()).run(START)


@pytest.fixture(scope="module")
def of_the_other_four(tmp_path_factory):
    """The weights without the fifth: it sends nothing that could be taken for an update."""
    attack = lambda message, _: Message(RecordDict({}), reply_to=message)  # noqa: E731
    return run(tmp_path_factory.mktemp("four"), attack).weights


def same(one, other):
    return all(np.array_equal(one[name], other[name]) for name in one)


def honest(message, number, **numbers):
    return reply(message, update(HOSTILE, number), **numbers)


ATTACKS = {
    "more patients than it declared": lambda m, k: honest(m, k, n=2**24),
    "one more": lambda m, k: honest(m, k, n=10 * HOSTILE + 1),
    "a loss below zero": lambda m, k: honest(m, k, loss=-3.0),
    "a loss without end": lambda m, k: honest(m, k, loss=1e200),
    "an infinite loss": lambda m, k: honest(m, k, loss=math.inf),
    "steps below zero": lambda m, k: honest(m, k, steps=-1),
    "seconds without end": lambda m, k: honest(m, k, seconds=1e300),
    "a number too many": lambda m, k: honest(m, k, auroc=7.0),
    "a norm beyond the plan's": lambda m, k: reply(m, {n: 1e6 * w for n, w in update(HOSTILE).items()}),
    "nothing": lambda m, k: Message(RecordDict({}), reply_to=m),
    "texts for numbers": lambda m, k: Message(
        RecordDict({wire.ARRAYS: wire.pack(update(HOSTILE)), wire.METRICS: ConfigRecord({"loss": "low"})}),
        reply_to=m,
    ),
    "arrays of rubbish": lambda m, k: Message(
        RecordDict({wire.ARRAYS: ArrayRecord({wire.PACKED: Array("uint8", (9,), wire.PACKED, b"\xff" * 9)})}),
        reply_to=m,
    ),
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_a_run_ends_with_the_weights_that_the_other_four_give(tmp_path, of_the_other_four, attack):
    checkpoint = run(tmp_path, attack)
    assert same(checkpoint.weights, of_the_other_four)
    for report in checkpoint.history:
        assert set(report.failed) == {f"site-{HOSTILE}"}
        assert len(report.failed[f"site-{HOSTILE}"]) <= 500
        assert report.failed[f"site-{HOSTILE}"].isprintable()


class Greets(ScriptedGrid):
    """The fifth site greets with numbers of its own, or judges with those that `judged` gives each time."""

    def __init__(self, script, declared=None, judged=None, **more):
        super().__init__(script, **more)
        self.declared, self.judged = declared or {}, judged or dict

    def pull_messages(self, message_ids):
        replies = super().pull_messages(message_ids)
        for one in replies:
            kind = one.metadata.message_type
            if one.metadata.src_node_id == HOSTILE and kind in ("query", "evaluate"):
                record = dict(one.content[wire.METRICS])
                record |= self.declared if kind == "query" else self.judged()
                one.content[wire.METRICS] = MetricRecord(record)
        return replies


def of_five(folder, declared=None, judged=None, n=None, quorum=1.0, plan=None, losses=()):
    def script(node, message):
        number = wire.get_round(message.content)
        return reply(message, update(node, number), n=n if node == HOSTILE else None)

    plan = plan or small_plan(federation=Federation(quorum=quorum, deadline_s=5.0), rounds=2)
    return RoundLoop(Greets(script, declared, judged, losses=losses), plan, SCHEMA, folder, Silent()).run(
        START
    )


def test_a_site_that_declares_a_continent_has_half_of_the_weight_at_most(tmp_path):
    checkpoint = of_five(tmp_path, declared={wire.N_TRAIN: 2**24}, n=2**24)
    others = {node: 10 * node for node in range(1, 6) if node != HOSTILE}
    total = sum(others.values())
    step = (
        total * update(HOSTILE)["scale"] + sum(n * update(node)["scale"] for node, n in others.items())
    ) / (2 * total)
    first = of_five(tmp_path / "again", declared={wire.N_TRAIN: 2**24}, n=2**24).history[0]
    assert f"counts as {total} of its 16777216 patients" in first.noted[f"site-{HOSTILE}"]
    second = (
        total * update(HOSTILE, 2)["scale"] + sum(n * update(node, 2)["scale"] for node, n in others.items())
    ) / (2 * total)
    np.testing.assert_allclose(
        checkpoint.weights["scale"], START["scale"] + step + second, rtol=1e-5, atol=1e-6
    )


def test_a_site_that_declares_nothing_counts_for_nothing(tmp_path, of_the_other_four):
    """Of three sites, two that declare are too few for a cap: a silent third was bounded by nothing."""
    checkpoint = of_five(tmp_path, declared={wire.N_TRAIN: math.nan}, n=2**24, quorum=0.8)
    assert same(checkpoint.weights, of_the_other_four)
    assert "it declared none" in checkpoint.history[0].failed[f"site-{HOSTILE}"]


@pytest.mark.parametrize("declared", [1e-300, 0.5, 20.5])
def test_a_part_of_a_patient_is_none(tmp_path, of_the_other_four, declared):
    """Two that declared almost nobody capped everybody else to almost nothing."""
    checkpoint = of_five(tmp_path, declared={wire.N_TRAIN: declared}, quorum=0.8)
    assert same(checkpoint.weights, of_the_other_four)


@pytest.mark.parametrize(
    "judged",
    [
        {wire.AUROC: 7.0}, {wire.BRIER: -3.0}, {wire.AUROC_SE: 1e200}, {wire.LOSS: math.inf}, {wire.N_EXAMPLES: 2**24},
        {wire.AUROC: -math.inf}, {wire.LOSS: 17.0}, {"more": 1.0},
    ],
)  # fmt: skip
def test_a_verdict_out_of_its_range_is_nobody_s(tmp_path, judged):
    evaluation = of_five(tmp_path, judged=lambda: judged).history[-1].evaluation
    assert set(evaluation.failed) == {f"site-{HOSTILE}"}
    assert evaluation.auroc == evaluation.brier == 0.5
    assert math.isfinite(evaluation.auroc_se)


@pytest.mark.parametrize(
    "lie", [lambda k: 0.0, lambda k: 16.0, lambda k: 16.0 * (k != 5), lambda k: 16.0 * (k > 1)]
)
@pytest.mark.parametrize("declared", [{}, {wire.N_VALIDATION: 2**24}])
def test_a_site_that_lies_about_its_loss_does_not_choose_the_round(tmp_path, lie, declared):
    plan = small_plan(
        federation=Federation(deadline_s=5.0), rounds=6, evaluation={"select": "best", "patience": 2}
    )
    losses = (0.9, 0.5, 0.4, 0.6, 0.7, 0.8)

    rounds = count(1)

    def lies():
        return {
            wire.LOSS: float(lie(next(rounds))),
            wire.N_EXAMPLES: declared.get(wire.N_VALIDATION, 10),
        }

    honest = of_five(tmp_path / "a", plan=plan, losses=losses)
    attacked = of_five(tmp_path / "b", plan=plan, losses=losses, declared=declared, judged=lies)
    said = [report.evaluation.sites[f"site-{HOSTILE}"][wire.LOSS] for report in attacked.history]
    assert said == [float(lie(k)) for k in range(1, 6)]  # the lie was taken
    assert (
        (attacked.round, attacked.chosen(plan).round) == (honest.round, honest.chosen(plan).round) == (5, 3)
    )
    assert same(attacked.chosen(plan).weights, honest.chosen(plan).weights)


numbers = st.floats() | st.integers(-(2**62), 2**62)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.dictionaries(st.sampled_from([*wire.TRAIN_NUMBERS, wire.N_EXAMPLES, "other"]), numbers, max_size=5),
    st.binary(max_size=64),
    st.booleans(),
)
def test_whatever_a_site_sends_the_run_goes_on(tmp_path_factory, of_the_other_four, metrics, data, whole):
    def attack(message, number):
        arrays = (
            wire.pack(update(HOSTILE, number))
            if whole
            else ArrayRecord({wire.PACKED: Array("uint8", (len(data),), wire.PACKED, data)})
        )
        base = {wire.N_EXAMPLES: 30, wire.LOSS: 1.0, wire.STEPS: 3, wire.SECONDS: 0.1}
        return Message(
            RecordDict({wire.ARRAYS: arrays, wire.METRICS: MetricRecord({**base, **metrics})}),
            reply_to=message,
        )

    checkpoint = run(tmp_path_factory.mktemp("any"), attack)
    outcomes = Counter(bool(report.failed) for report in checkpoint.history)
    assert sum(outcomes.values()) == 2
    if outcomes[True] == 2:
        assert same(checkpoint.weights, of_the_other_four)
    for report in checkpoint.history:
        taken = report.sites.get(f"site-{HOSTILE}")
        assert taken is None or taken[wire.N_EXAMPLES] <= 10 * HOSTILE
