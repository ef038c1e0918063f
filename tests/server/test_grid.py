"""The Grid over the link state, and rounds with hostile hospitals: real messages over TLS, sites as
threads."""

import re
import time

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from safetensors.numpy import save

from common import wire
from common.errors import RunError
from common.models import build_model
from common.plan import Federation
from server.grid import FleetGrid
from server.observer import Silent
from server.roster import Deployment
from server.rounds import RoundLoop
from tests.helpers.deployment import wait_for
from tests.helpers.local_sites import SiteThread, honest, make_server, make_site, train_numbers, update_of
from tests.helpers.plans import small_plan

NAMES = ["alpha", "beta", "gamma"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    path = tmp_path_factory.mktemp("grid")
    folder, service = make_server(path)
    sites = {name: make_site(path, name, folder) for name in NAMES}
    yield service, sites
    service.stop()


@pytest.fixture
def grid(place):
    grid = FleetGrid(place[0].state, place[0].parcels, place[0].bells)
    yield grid
    grid.close()


@pytest.fixture
def threads(place):
    """answers by name -> running sites; those not named answer honestly."""
    started = []

    def start(**answers):
        for name in NAMES:
            started.append(SiteThread(place[1][name], name, answers.get(name, honest)))
        wait_for("the sites", lambda: len(place[0].state.get_node_info(statuses=["online"])) == len(NAMES))
        return {thread.name: thread for thread in started}

    yield start
    for thread in started:
        thread.close()


def ask(grid, nodes, size=4, kind="train"):
    weights = {"w": np.zeros(size, np.float32)}
    about = ConfigRecord({"a": 1, wire.TENSOR_BYTES: wire.Schema.of_weights(weights).packed_bytes})
    content = {"config": about, "arrays": wire.pack(weights)}
    return grid.push_messages([Message(RecordDict(content), node, kind) for node in nodes])


def plan_of(**changes):
    return small_plan(
        **{"federation": Federation(quorum=0.6, deadline_s=20.0, max_update_norm=10.0), **changes}
    )


def run(place, grid, plan, folder):
    model = build_model(plan)
    deployment = Deployment("run1", len(NAMES), 20.0, place[0].site_of)
    loop = RoundLoop(grid, plan, wire.Schema.of(model), folder, Silent(), deployment)
    return loop.run(wire.get_weights(model))


def test_replies_come_from_every_site_and_are_matched(grid, threads, place):
    threads()
    nodes = grid.get_node_ids()
    ids = ask(grid, nodes, kind="query")
    replies = {}
    end = time.monotonic() + 20
    while len(replies) < 3 and time.monotonic() < end:
        replies |= {r.metadata.reply_to_message_id: r for r in grid.pull_messages(ids)}
    for message_id, node in zip(ids, nodes, strict=True):
        assert wire.get_text(replies[message_id].content, wire.SITE) == place[0].site_of(node)


@pytest.mark.slow
def test_nothing_is_left_in_the_servers_memory(grid, threads, place, tmp_path):
    threads()
    run(place, grid, plan_of(rounds=3), tmp_path)
    grid.close()
    state = place[0].state
    assert state.object_store.store == {}
    assert state.num_message_ins() == state.num_message_res() == 0


def test_nor_of_a_message_that_nobody_answered_in_time(grid, threads, place):
    """Flower makes an error of it, and would keep that for ever."""
    threads(alpha=lambda name, message: None)
    (node,) = (n for n in grid.get_node_ids() if place[0].site_of(n) == "alpha")
    content = RecordDict({"config": ConfigRecord({"a": 1})})
    ids = grid.push_messages([Message(content, node, "train", ttl=0.5)])
    lost = wait_for("the error", lambda: grid.pull_messages(ids))
    assert lost[0].error.reason == "no answer before the deadline"
    assert place[0].state.object_store.store == {}


@pytest.mark.slow
def test_a_large_update_crosses_in_pieces(grid, threads):
    big = {"w": np.arange(6_000_000, dtype=np.float32)}
    threads(
        alpha=lambda n, m: Message(RecordDict({"arrays": wire.pack(big)}), reply_to=m),
        beta=lambda n, m: None,
        gamma=lambda n, m: None,
    )
    ids = ask(grid, grid.get_node_ids(), size=6_000_000)
    (reply,) = wait_for("the update", lambda: grid.pull_messages(ids), 60)
    received = wire.Schema({"w": (6_000_000,)}).unpack(wire.get_arrays(reply.content))
    assert np.array_equal(received["w"], big["w"])


@pytest.mark.slow
def test_an_answer_after_the_deadline_is_not_taken(grid, threads):
    late = []

    def slow(name, message):
        if name == "alpha" and not late:
            late.append(message)
            time.sleep(1.5)
        return honest(name, message)

    sites = threads(alpha=slow)
    nodes = grid.get_node_ids()
    ask(grid, nodes)
    wait_for("alpha to work", lambda: late)
    ask(grid, nodes)  # the next round: what was sent before counts no more
    wait_for("the refusal", lambda: any("does not wait" in p for p in sites["alpha"].problems))


@pytest.mark.slow
def test_a_stopped_run_ends_the_wait_and_refuses_what_comes_later(grid, threads):
    answered = []

    def slow(name, message):
        answered.append(name)
        time.sleep(1.0)
        return honest(name, message)

    sites = threads(alpha=slow, beta=slow, gamma=slow)
    ids = ask(grid, grid.get_node_ids())
    wait_for("all to work", lambda: len(answered) == 3)
    grid.stop()
    with pytest.raises(RunError, match="stopped by the coordinator"):
        grid.pull_messages(ids)
    grid.close()
    for site in sites.values():
        wait_for("the refusal", lambda site=site: site.problems)


def packed(tensors):
    data = save(tensors)
    return ArrayRecord({wire.PACKED: Array("uint8", (len(data),), wire.PACKED, data)})


def hostile(change):
    """A site that is honest until it trains, and then sends what `change` makes of its honest update."""

    def answer(name, message):
        if message.metadata.message_type != "train":
            return honest(name, message)
        return Message(change(update_of(name, message), message), reply_to=message)

    return answer


def content(arrays, metrics=None):
    return RecordDict({wire.ARRAYS: arrays, wire.METRICS: metrics or train_numbers()})


ATTACKS = {
    "NaN": (lambda u, m: content(packed({**u, "scale": np.full(1, np.nan, np.float32)})), "scale: holds NaN"),
    "+inf": (lambda u, m: content(packed({**u, "scale": np.full(1, np.inf, np.float32)})), "infinity"),
    "-inf": (lambda u, m: content(packed({**u, "scale": np.full(1, -np.inf, np.float32)})), "infinity"),
    "a wrong shape": (lambda u, m: content(packed({**u, "scale": np.zeros(3, np.float32)})), r"scale: found float32 \(3,\)"),
    "an extra tensor": (lambda u, m: content(packed({**u, "x": np.zeros(3, np.float32)})), "x is not part"),
    "scaled by a million": (lambda u, m: content(packed({k: w * np.float32(1e6) for k, w in u.items()})), "the plan allows 10"),
    "another million patients": (lambda u, m: content(packed(u), train_numbers(**{wire.N_EXAMPLES: 2**40})), "whole number"),
    "an extra number": (lambda u, m: content(packed(u), train_numbers(extra=1.0)), "expected"),
    "no numbers": (lambda u, m: RecordDict({wire.ARRAYS: packed(u)}), "missing"),
    "nothing": (lambda u, m: RecordDict(), "missing"),
    "rubbish": (
        lambda u, m: content(ArrayRecord({wire.PACKED: Array("uint8", (9,), wire.PACKED, b"rubbish!!")})), "not a readable",
    ),
    "numpy with objects": (
        lambda u, m: content(ArrayRecord({"w": Array("object", (1,), "numpy.ndarray", b"\x93NUMPY\x01\x00")})), "expected safetensors",
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_hostile_update_is_rejected_the_site_is_named_and_the_round_goes_on(
    grid, threads, place, tmp_path, attack
):
    change, said = ATTACKS[attack]
    threads(beta=hostile(change))
    checkpoint = run(place, grid, plan_of(rounds=1), tmp_path)
    (report,) = checkpoint.history
    assert sorted(report.sites) == ["alpha", "gamma"]
    assert list(report.failed) == ["beta"]
    assert re.search(said, report.failed["beta"])
    assert all(np.isfinite(w).all() for w in checkpoint.weights.values())


@pytest.mark.slow
def test_a_site_cannot_take_the_name_of_another(grid, threads, place, tmp_path):
    threads(beta=lambda name, message: honest("alpha", message))
    model = build_model(plan_of())
    loop = RoundLoop(
        grid,
        plan_of(),
        wire.Schema.of(model),
        tmp_path,
        Silent(),
        Deployment("run1", 3, 3.0, place[0].site_of),
    )
    with pytest.raises(RunError, match="the site admitted as beta calls itself alpha"):
        loop.run(wire.get_weights(model))


def test_a_reply_to_somebody_elses_message_is_not_taken(grid, threads):
    taken = {}

    def steal(name, message):
        taken[name] = message
        if name == "gamma":
            wait_for("beta's message", lambda: "beta" in taken)
            message = taken["beta"]
            message.metadata.__dict__["_dst_node_id"] = sites["gamma"].link.node
        return honest(name, message) if name != "beta" else None

    sites = threads(alpha=steal, beta=steal, gamma=steal)
    ids = ask(grid, grid.get_node_ids())
    wait_for("the refusal", lambda: sites["gamma"].problems)
    assert len([r for r in grid.pull_messages(ids) if not r.has_error()]) <= 1


@pytest.mark.slow
def test_numbers_of_every_site_reach_the_report(grid, threads, place, tmp_path):
    threads()
    checkpoint = run(place, grid, plan_of(rounds=2), tmp_path)
    assert [sorted(r.sites) for r in checkpoint.history] == [NAMES] * 2
    assert checkpoint.history[-1].evaluation.auroc == pytest.approx(0.5)
