"""The loop over a scripted grid: every strategy against its formula, every bad reply, quorum and deadline."""

import time

import numpy as np
import pytest
from flwr.app import Error, Message, MetricRecord, RecordDict
from flwr.serverapp import strategy as flower

from common import wire
from common.config import validate
from common.errors import ConfigError, RunError
from common.plan import Evaluation, Federation, Plan, Strategy
from server.checkpoint import load_checkpoint
from server.observer import Silent
from server.roster import Deployment
from server.rounds import RoundLoop
from server.strategies import to_flower
from tests.helpers.grids import SCHEMA, START, ScriptedGrid, reply, update
from tests.helpers.plans import small_plan


def honest(node, message):
    return reply(message, update(node, wire.get_round(message.content)))


def run(plan, folder, script=honest, **grid):
    return RoundLoop(ScriptedGrid(script, **grid), plan, SCHEMA, folder, Silent()).run(START)


def formula(name, options, rounds=2):
    """What Flower's strategy makes of all replies at once, given whole weights: the reference."""
    strategy = getattr(flower, name)(**options)
    grid, weights = ScriptedGrid(honest), START
    from flwr.app import ConfigRecord

    for number in range(1, rounds + 1):
        messages = list(strategy.configure_train(number, to_flower(weights), ConfigRecord(), grid))
        replies = []
        for message in sorted(messages, key=lambda m: m.metadata.dst_node_id):
            node = message.metadata.dst_node_id
            local = {
                k: (weights[k].astype(np.float64) + update(node, number)[k]).astype(np.float32)
                for k in weights
            }
            replies.append(
                Message(
                    RecordDict({"a": to_flower(local), "m": MetricRecord({"num-examples": 10 * node})}),
                    reply_to=message,
                )
            )
        arrays, _ = strategy.aggregate_train(number, replies)
        weights = {k: np.asarray(a.numpy(), np.float32) for k, a in arrays.items()}
    return weights


CASES = [
    ("FedAvg", {}),
    ("FedProx", {"proximal_mu": 0.1}),
    ("FedAvgM", {"server_momentum": 0.7, "server_learning_rate": 0.8}),
    ("FedAdam", {"eta": 0.05}),
    ("FedYogi", {"eta": 0.05}),
    ("FedAdagrad", {"eta": 0.05}),
    ("FedMedian", {}),
    ("FedTrimmedAvg", {"beta": 0.3}),
    ("Krum", {"num_malicious_nodes": 1}),
    ("MultiKrum", {"num_malicious_nodes": 1, "num_nodes_to_select": 3}),
    pytest.param("Bulyan", {"num_malicious_nodes": 0}, marks=pytest.mark.slow),
]
NAMES = [case.values[0] if hasattr(case, "values") else case[0] for case in CASES]


@pytest.mark.parametrize(("name", "options"), CASES, ids=NAMES)
def test_two_rounds_equal_flower_s_own_aggregation_of_all_replies(tmp_path, name, options):
    plan = small_plan(strategy=Strategy(name=name, options=options))
    found = run(plan, tmp_path).weights
    for key, expected in formula(name, options).items():
        np.testing.assert_allclose(found[key], expected, rtol=1e-5, atol=2e-6)


def test_fedavg_by_hand(tmp_path):
    found = run(small_plan(rounds=1), tmp_path).weights
    # weights 10 20 30 40 50 of 150
    expected = START["scale"] + sum(node * update(node)["scale"] for node in range(1, 6)) / 15
    np.testing.assert_allclose(found["scale"], expected, rtol=1e-6)


@pytest.mark.parametrize(("name", "options"), CASES, ids=NAMES)
def test_a_resumed_run_ends_with_the_same_bits(tmp_path, name, options):
    plan = small_plan(rounds=4, strategy=Strategy(name=name, options=options))
    whole = run(plan, tmp_path / "whole").weights

    def dies(node, message):
        if wire.get_round(message.content) == 3:
            raise KeyboardInterrupt
        return honest(node, message)

    with pytest.raises(KeyboardInterrupt):
        run(plan, tmp_path / "stopped", dies)
    resumed = run(plan, tmp_path / "stopped")
    assert [r.round for r in resumed.history] == [1, 2, 3, 4]
    assert all(np.array_equal(whole[key], resumed.weights[key]) for key in whole)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda m: reply(m, {**update(2), "scale": np.array([np.nan], np.float32)}), "holds NaN"),
        (lambda m: reply(m, {**update(2), "scale": np.array([np.inf], np.float32)}), "holds NaN or infinity"),
        (lambda m: reply(m, {**update(2), "scale": np.zeros((1, 2), np.float32)}), "expected float32"),
        (lambda m: reply(m, {**update(2), "extra": np.zeros(1, np.float32)}), "not part of the model"),
        (lambda m: reply(m, {k: v * 1e6 for k, v in update(2).items()}), "the plan allows 100"),
        (lambda m: reply(m, update(2), age=71.0), "found the numbers"),
        (lambda m: reply(m, update(2), n=-5), "num-examples"),
        (lambda m: Message(Error(2, "out of memory"), reply_to=m), "out of memory"),
        (lambda m: Message(RecordDict(), reply_to=m), "missing"),
    ],
)
@pytest.mark.parametrize("strategy", ["FedAvg", "FedMedian"])
def test_a_bad_reply_is_refused_by_name_and_leaves_no_trace(tmp_path, spoil, said, strategy):
    plan = small_plan(rounds=1, federation=Federation(quorum=0.8), strategy=Strategy(name=strategy))
    state = run(plan, tmp_path / "a", lambda node, m: spoil(m) if node == 2 else honest(node, m))
    assert list(state.history[0].failed) == ["site-2"]
    assert said in state.history[0].failed["site-2"]
    assert sorted(state.history[0].sites) == ["site-1", "site-3", "site-4", "site-5"]

    def without(node, message):
        return Message(Error(2, "absent"), reply_to=message) if node == 2 else honest(node, message)

    clean = run(plan, tmp_path / "b", without)
    assert all(np.array_equal(clean.weights[k], state.weights[k]) for k in state.weights)


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_site_whose_admission_is_taken_back_is_missed_by_no_quorum(tmp_path, when):
    """Five sites and a quorum of all: of the fifth nothing comes, in the first round or from the second on."""
    admitted = {node: f"site-{node}" for node in range(1, 6)}

    def script(node, message):
        if when == "meanwhile" and wire.get_round(message.content) == 2:
            admitted.pop(5, None)
        if node == 5 and 5 not in admitted:
            return Message(Error(0, "the site went away"), reply_to=message)
        return honest(node, message)

    class Fleet(ScriptedGrid):
        def get_node_ids(self):
            return [node for node in super().get_node_ids() if node in admitted]

    if when == "before":
        del admitted[5]
    deployment = Deployment("r", 5, 0.0, admitted.get, frozenset(), lambda: len(admitted))
    plan = small_plan(rounds=3, federation=Federation(quorum=1.0), evaluation={"every": 0})
    loop = RoundLoop(Fleet(script), plan, SCHEMA, tmp_path, Silent(), deployment)
    counted = [len(report.sites) for report in loop.run(START).history]
    assert counted == ([4, 4, 4] if when == "before" else [5, 4, 4])


def test_a_missed_quorum_stops_the_run_with_the_reasons_and_keeps_the_checkpoint(tmp_path):
    plan = small_plan(rounds=3)

    def fails_later(node, message):
        if node == 4 and wire.get_round(message.content) == 2:
            return Message(Error(2, "disk full"), reply_to=message)
        return honest(node, message)

    with pytest.raises(RunError, match=r"round 2: 4 of 5 sites .* quorum is 5\. site-4: disk full"):
        run(plan, tmp_path, fails_later)
    assert run(plan, tmp_path).round == 3


def test_a_silent_site_is_waited_for_until_the_deadline(tmp_path):
    plan = small_plan(rounds=1, federation=Federation(quorum=0.6, deadline_s=0.4))
    started = time.monotonic()
    state = run(plan, tmp_path, silent=(3,))
    assert 0.3 < time.monotonic() - started < 5
    assert state.history[0].failed == {"site-3": "no answer before the deadline"}


def test_participation_draws_the_same_sites_again(tmp_path):
    plan = small_plan(rounds=4, federation=Federation(participation=0.4))
    one, two = (run(plan, tmp_path / name) for name in "ab")
    drawn = [sorted(r.sites) for r in one.history]
    assert drawn == [sorted(r.sites) for r in two.history]
    assert all(len(sites) == 2 for sites in drawn)
    assert len({tuple(s) for s in drawn}) > 1


def test_bytes_are_counted(tmp_path):
    report = run(small_plan(rounds=1), tmp_path).history[0]
    headers = 1.6  # numpy's header of 128 bytes weighs on a model this small
    assert 5 * SCHEMA.n_bytes < report.bytes_up < headers * 5 * SCHEMA.n_bytes * 2
    assert report.bytes_down == 2 * report.bytes_up  # weights go out for training and for evaluation


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("FedAvg", {"beta": 0.1}, "FedAvg has no 'beta'; it has no options"),
        ("FedAvgM", {"momentum": 0.1}, "it has server_learning_rate, server_momentum"),
        ("FedTrimmedAvg", {"beta": 0.7}, "beta: found 0.7, expected a number from 0 below 0.5"),
    ],
)
def test_options_that_a_strategy_does_not_have_are_refused(name, options, said):
    with pytest.raises(ConfigError, match=said):
        validate({"name": "x", "strategy": {"name": name, "options": options}}, Plan, "plan.yaml")


def test_a_plan_whose_rule_is_gone_asks_no_site(tmp_path):
    with pytest.raises(ConfigError, match="accuracy is gone"):
        run(small_plan(evaluation=Evaluation(threshold="accuracy")), tmp_path)


def test_each_site_is_reminded_of_its_own_last_update(tmp_path):
    """One that was away was told of the others' rounds, and took its own ledger for lost."""
    reminded = {}

    def away(node, message):
        number = wire.get_round(message.content)
        reminded[number, node] = wire.get_answered(message.content)
        if node == 5 and number < 3:
            return Message(Error(wire.SITE_CRASHED, "away"), reply_to=message)
        return honest(node, message)

    plan = small_plan(rounds=4, federation=Federation(quorum=0.5))
    RoundLoop(ScriptedGrid(away), plan, SCHEMA, tmp_path, Silent()).run(START)
    assert [reminded[k, 1] for k in (1, 2, 3, 4)] == [0, 1, 2, 3]
    assert [reminded[k, 5] for k in (1, 2, 3, 4)] == [0, 0, 0, 3]


LOSSES = (0.9, 0.5, 0.4, 0.6, 0.7, 0.3)


def choosing(rounds=6, **evaluation):
    return small_plan(rounds=rounds, evaluation={"select": "best", **evaluation})


@pytest.mark.parametrize(("patience", "done", "chosen"), [(None, 6, 6), (3, 6, 6), (2, 5, 3), (1, 4, 3)])
def test_the_best_round_is_handed_over_and_patience_ends_a_run(tmp_path, patience, done, chosen):
    plan = choosing(patience=patience)
    state = run(plan, tmp_path / "a", losses=LOSSES)
    expected = run(small_plan(rounds=chosen), tmp_path / "b").weights
    assert (state.round, state.chosen(plan).round) == (done, chosen)
    assert state.chosen(plan).evaluation.loss == pytest.approx(LOSSES[chosen - 1])
    assert all(np.array_equal(state.chosen(plan).weights[k], expected[k]) for k in expected)
    again = load_checkpoint(tmp_path / "a", plan.sha256)
    assert all(np.array_equal(again.chosen(plan).weights[k], expected[k]) for k in expected)


@pytest.mark.parametrize("stop", [1, 2, 3, 4])
def test_a_run_that_was_cut_off_chooses_the_same_round(tmp_path, stop):
    plan, seen = choosing(patience=2), []

    class Stops(Silent):
        def finished_round(self, report):
            seen.append(report.round)
            if len(seen) == stop:
                raise KeyboardInterrupt

    def loop(observer):
        return RoundLoop(ScriptedGrid(honest, losses=LOSSES), plan, SCHEMA, tmp_path, observer).run(START)

    with pytest.raises(KeyboardInterrupt):
        loop(Stops())
    assert loop(Stops()).round == 5
    assert seen == [1, 2, 3, 4, 5]
    state = loop(Silent())  # and nothing more is trained
    assert (state.round, state.chosen(plan).round) == (5, 3)
    expected = run(small_plan(rounds=3), tmp_path / "b").weights
    assert all(np.array_equal(state.chosen(plan).weights[k], expected[k]) for k in expected)


KRUM = Strategy(name="Krum", options={"num_malicious_nodes": 1})
TRIMMED = Strategy(name="FedTrimmedAvg", options={"beta": 0.2})


@pytest.mark.parametrize("strategy", [KRUM, TRIMMED])
def test_a_rule_is_not_asked_of_fewer_sites_than_it_can_work_with(tmp_path, strategy):
    plan = small_plan(strategy=strategy, federation=Federation(participation=0.4))
    with pytest.raises(
        ConfigError, match=r"of 2 sites cuts off 0|found 2 sites, it needs at least 5"
    ) as told:
        run(plan, tmp_path)
    assert "federation.participation 0.4 asks so many" in str(told.value)
    assert load_checkpoint(tmp_path, plan.sha256) is None


@pytest.mark.parametrize("strategy", [KRUM, TRIMMED])
@pytest.mark.parametrize("n_lost", [1, 3, 4])
def test_a_round_with_too_few_answers_for_its_rule_ends_the_run(tmp_path, strategy, n_lost):
    def some(node, message):
        if node <= n_lost:
            return Message(Error(1, "power cut"), reply_to=message)
        return honest(node, message)

    plan = small_plan(strategy=strategy, federation=Federation(quorum=0.2))
    with pytest.raises(RunError, match=rf"round 1: {5 - n_lost} of 5 sites .* Strategy {strategy.name}"):
        run(plan, tmp_path, some)


@pytest.mark.parametrize("strategy", [KRUM, TRIMMED])
def test_a_hostile_update_that_is_refused_ends_no_run(tmp_path, strategy):
    """It is one of those that the rule allows for, and did no harm: nobody can end a run by sending rubbish."""

    def rubbish(node, message):
        if node == 1:
            return reply(message, {name: np.full_like(w, np.nan) for name, w in START.items()})
        return honest(node, message)

    done = run(small_plan(rounds=2, strategy=strategy, federation=Federation(quorum=0.2)), tmp_path, rubbish)
    assert [sorted(report.failed) for report in done.history] == [["site-1"]] * 2


def test_a_site_that_is_away_for_a_moment_is_waited_for_as_long_as_the_rule_needs_it(tmp_path):
    grid, plan = (
        ScriptedGrid(honest, 5),
        small_plan(rounds=2, strategy=TRIMMED, federation=Federation(quorum=0.6)),
    )
    nodes, asked = list(grid.get_node_ids()), []
    loop = RoundLoop(grid, plan, SCHEMA, tmp_path, Silent(), Deployment(min_sites=5, wait_s=20.0))

    def there():
        asked.append(len(loop.members))
        gone = load_checkpoint(tmp_path, plan.sha256) is not None and len(asked) < 60
        return nodes[:4] if gone else nodes

    grid.get_node_ids = there
    done = loop.run(START)
    assert [len(report.sites) for report in done.history] == [5, 5]
    assert len(asked) >= 60


def test_too_few_for_the_rule_after_the_wait_is_said(tmp_path):
    grid, plan = (
        ScriptedGrid(honest, 5),
        small_plan(rounds=2, strategy=TRIMMED, federation=Federation(quorum=0.6)),
    )
    nodes = list(grid.get_node_ids())
    loop = RoundLoop(grid, plan, SCHEMA, tmp_path, Silent(), Deployment(min_sites=5, wait_s=0.2))
    grid.get_node_ids = lambda: nodes[:4] if load_checkpoint(tmp_path, plan.sha256) else nodes
    with pytest.raises(RunError, match="4 sites can take part, 5 are needed"):
        loop.run(START)


class Speechless(ScriptedGrid):
    """Some sites do not even answer the greeting."""

    dead = (2, 3)

    def pull_messages(self, message_ids):
        if self.waiting and self.waiting[-1].metadata.dst_node_id in self.dead:
            return [Message(Error(1, "the worker was killed"), reply_to=self.waiting.pop())]
        return super().pull_messages(message_ids)


def test_a_site_of_a_simulation_that_never_answers_counts_as_failed_in_every_round(tmp_path):
    def loop(plan, deployment=None):
        return RoundLoop(Speechless(honest), plan, SCHEMA, tmp_path, Silent(), deployment).run(START)

    with pytest.raises(RunError, match=r"3 of 5 sites .* node 2: the worker was killed; node 3"):
        loop(small_plan(federation=Federation(quorum=1.0)))
    done = loop(small_plan(rounds=2, federation=Federation(quorum=0.6)))
    assert [sorted(report.failed) for report in done.history] == [["node 2", "node 3"]] * 2


def test_absent_sites_count_as_asked_as_far_as_they_would_have_been(tmp_path):
    plan = small_plan(rounds=2, federation=Federation(quorum=0.4, participation=0.4))
    done = RoundLoop(Speechless(honest), plan, SCHEMA, tmp_path, Silent()).run(START)
    assert [len(report.sites) for report in done.history] == [1, 1]  # of two that five would have sent


def test_a_hospital_that_stays_away_is_missed_by_no_quorum(tmp_path):
    plan = small_plan(rounds=1, federation=Federation(quorum=1.0))
    done = RoundLoop(Speechless(honest), plan, SCHEMA, tmp_path, Silent(), Deployment()).run(START)
    assert done.history[0].failed == {}


@pytest.mark.parametrize(
    ("strategy", "refused"),
    [
        (KRUM, 3),
        ({"name": "FedMedian"}, 3),
        ({"name": "FedMedian"}, 4),
        (TRIMMED, 2),
        ({"name": "MultiKrum", "options": {"num_malicious_nodes": 1, "num_nodes_to_select": 3}}, 3),
    ],
)
def test_more_refused_updates_than_the_rule_allows_for_are_no_protection(tmp_path, strategy, refused):
    """They may be honest ones, over the norm: what was left of five could be the hostile one's update."""

    def spoiled(node, message):
        if node > 5 - refused:
            return reply(message, {name: 1e6 * w for name, w in update(node).items()})
        return honest(node, message)

    plan = small_plan(rounds=1, strategy=strategy, federation=Federation(quorum=0.2))
    with pytest.raises(RunError, match=f"{5 - refused} of 5 sites gave a usable update. Strategy"):
        run(plan, tmp_path, spoiled)


def test_a_site_that_is_revoked_takes_the_rule_s_protection_with_it_and_that_is_said(tmp_path):
    """Nobody waits for it, and all that are left answer: the rule has too few of them all the same."""
    admitted = {n: f"site-{n}" for n in range(1, 6)}
    deployment = Deployment("r", 5, 0.0, admitted.get, frozenset(), lambda: len(admitted))
    grid = ScriptedGrid(honest)
    loop = RoundLoop(
        grid, small_plan(rounds=2, strategy=TRIMMED), SCHEMA, tmp_path, Silent(), deployment
    )  # fmt: skip
    finished = loop.observer.finished_round

    def revoke(report):
        admitted.pop(5, None)
        grid.get_node_ids = lambda: list(admitted)
        finished(report)

    loop.observer.finished_round = revoke
    with pytest.raises(RunError, match=r"round 2: 4 of 4 sites .* FedTrimmedAvg: beta 0.2 of 4 sites cuts"):
        loop.run(START)
