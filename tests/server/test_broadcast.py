"""What is sent of the global weights under a codec, with real ClientApps; what a site lacks comes, and no more."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from flwr.app import ConfigRecord, Error, Message, RecordDict
from safetensors.numpy import save_file

from client.app import app
from common import wire
from common.codec import Coder, identity
from common.errors import RunError
from common.models.pretrained import starting_weights
from server.broadcast import Broadcast, answer_bytes
from server.checkpoint import load_checkpoint
from server.grid import FleetGrid
from server.observer import Silent
from server.roster import Deployment
from server.rounds import RoundLoop
from simulation.grid import SequentialGrid
from tests.helpers.deployment import wait_for
from tests.helpers.local_sites import SiteThread, honest, make_server, make_site, train_numbers
from tests.helpers.plans import small_plan

ROUNDS = 4


def plan_of(name="int4", **changes):
    return small_plan(rounds=ROUNDS, codec={"name": name}, federation={"quorum": 0.5}, **changes)


def with_memory(nodes, folder):
    return [{**node, "memory": str(folder / node["site"])} for node in nodes]


class Watched(SequentialGrid):
    """Sees what is sent; `absent` (round, node) give an error instead of training."""

    def __init__(self, nodes, absent=()):
        super().__init__(app, nodes)
        self.sent, self.absent = [], set(absent)

    def push_messages(self, messages):
        messages = list(messages)
        for m in messages:
            if m.metadata.message_type != "query":
                arrays = wire.get_arrays(m.content)
                said = m.metadata.message_type, wire.get_round(m.content), m.metadata.dst_node_id
                self.sent.append((*said, sum(len(a.data) for a in arrays.values()), sorted(arrays)))
        return super().push_messages(messages)

    def pull_messages(self, message_ids):
        if self._queue:
            _, m = self._queue[0]
            kind, node = m.metadata.message_type, m.metadata.dst_node_id
            if kind == "train" and (wire.get_round(m.content), node) in self.absent:
                self._queue.popleft()
                return [Message(Error(wire.SITE_CRASHED, "away"), reply_to=m)]
        return super().pull_messages(message_ids)


def run(plan, grid, folder, observer=None):
    start = starting_weights(plan, None)
    schema = wire.Schema({name: w.shape for name, w in start.items()})
    return RoundLoop(grid, plan, schema, folder, observer or Silent()).run(start)


def run_from(plan, nodes, folder, start):
    schema = wire.Schema({name: w.shape for name, w in start.items()})
    return RoundLoop(SequentialGrid(app, nodes), plan, schema, folder, Silent()).run(start)


def same(one, other):
    return all(np.array_equal(one[k], other[k]) for k in one)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["int8", "int4"])
def test_a_run_sends_steps_alone_and_learns_as_without(federation, tmp_path, name):
    plan = plan_of(name)
    grid = Watched(with_memory(federation(plan), tmp_path / "m"))
    coded = run(plan, grid, tmp_path / "coded")
    plain = run(
        small_plan(rounds=ROUNDS), SequentialGrid(app, federation(small_plan(rounds=ROUNDS))), tmp_path / "p"
    )
    whole = wire.Schema({k: w.shape for k, w in coded.weights.items()}).n_bytes
    for kind, _, _, n_bytes, arrays in grid.sent:
        if kind == "train":  # the sites know the first weights, and evaluated the later ones
            assert (n_bytes, arrays) == (0, [])
        else:
            assert 0 < n_bytes < 0.4 * whole  # of a tiny model the scales are a good part
    assert len(grid.sent) == 2 * 3 * ROUNDS
    assert not any(report.failed or report.evaluation.failed for report in coded.history)
    moved = sum(np.abs(plain.weights[k] - starting_weights(plan, None)[k]).sum() for k in plain.weights)
    apart = sum(np.abs(plain.weights[k] - coded.weights[k]).sum() for k in plain.weights)
    assert 0 < apart < (0.1 if name == "int8" else 0.6) * moved
    assert coded.history[-1].evaluation.loss == pytest.approx(plain.history[-1].evaluation.loss, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_run_that_was_cut_off_ends_with_the_same_weights(federation, tmp_path, stop):
    plan, nodes = plan_of(), federation(plan_of())
    expected = run(plan, SequentialGrid(app, with_memory(nodes, tmp_path / "a")), tmp_path / "whole").weights

    class Stops(Silent):
        def finished_round(self, report):
            if report.round == stop:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(plan, SequentialGrid(app, with_memory(nodes, tmp_path / "b")), tmp_path / "cut", Stops())
    state = load_checkpoint(tmp_path / "cut", plan.sha256)
    assert state.owed.keys() == state.weights.keys()
    grid = Watched(with_memory(nodes, tmp_path / "b"))
    assert same(run(plan, grid, tmp_path / "cut").weights, expected)
    assert {n_bytes for kind, _, _, n_bytes, _ in grid.sent if kind == "train"} == {
        0
    }  # they told what they hold


@pytest.mark.slow
def test_a_round_that_is_done_again_after_a_crash_is_the_same(federation, tmp_path):
    """The sites trained and evaluated it, and hold weights that the server lost."""
    plan, nodes = plan_of(), federation(plan_of())
    expected = run(plan, SequentialGrid(app, with_memory(nodes, tmp_path / "a")), tmp_path / "whole").weights
    copies = []

    class Copies(Silent):
        def finished_round(self, report):
            copies.append(shutil.copytree(tmp_path / "run", tmp_path / f"after-{report.round}"))

    run(plan, SequentialGrid(app, with_memory(nodes, tmp_path / "b")), tmp_path / "run", Copies())
    grid = Watched(with_memory(nodes, tmp_path / "b"))
    assert same(run(plan, grid, Path(copies[-2])).weights, expected)
    assert {arrays[0] for kind, *_, arrays in grid.sent if kind == "train"} == {wire.PACKED}  # whole


def test_a_site_that_missed_a_round_is_sent_all_once_and_the_others_nothing(federation, tmp_path):
    plan = plan_of(evaluation={"every": 0})
    grid = Watched(with_memory(federation(plan), tmp_path / "m"), absent=[(2, 3)])
    end = run(plan, grid, tmp_path / "run")
    assert [sorted(report.failed) for report in end.history] == [[], ["site-2"], [], []]
    trained = {(number, node): arrays for kind, number, node, _, arrays in grid.sent if kind == "train"}
    coded = ["pneumofed-coded-1"]
    assert [trained[k, 3] for k in range(1, 5)] == [[], coded, [wire.PACKED], coded]
    assert [trained[k, 1] for k in range(1, 5)] == [[], coded, coded, coded]


@pytest.mark.parametrize("looks", [False, True])
def test_a_site_that_keeps_its_scores_is_sent_steps_as_well(federation, tmp_path, looks):
    """It refuses before it takes the weights in, or afterwards."""
    plan = plan_of()

    class Keeps(Watched):
        def pull_messages(self, message_ids):
            _, m = self._queue[0] if self._queue else (None, None)
            if m is None or (m.metadata.message_type, m.metadata.dst_node_id) != ("evaluate", 2):
                return super().pull_messages(message_ids)
            if looks:
                super().pull_messages(message_ids)
            else:
                self._queue.popleft()
            return [Message(Error(wire.SITE_REFUSES, "keeps its metrics"), reply_to=m)]

    grid = Keeps(with_memory(federation(plan), tmp_path / "m"))
    end = run(plan, grid, tmp_path / "run")
    assert not any(report.failed for report in end.history)
    trained = [arrays for kind, _, node, _, arrays in grid.sent if (kind, node) == ("train", 2)]
    assert trained == [[], *[["pneumofed-coded-1"]] * 3]


def test_a_site_whose_folder_was_lost_says_so_and_costs_itself_one_round(federation, tmp_path):
    plan = plan_of()

    class Loses(Silent):
        def finished_round(self, report):
            if report.round == 2:
                shutil.rmtree(tmp_path / "m" / "site-1")

    grid = Watched(with_memory(federation(plan), tmp_path / "m"))
    end = run(plan, grid, tmp_path / "run", Loses())
    assert [sorted(report.failed) for report in end.history] == [[], [], ["site-1"], []]
    assert "does not hold the weights" in end.history[2].failed["site-1"]


@pytest.mark.parametrize("frozen", [0, 4])
def test_a_file_that_the_plan_starts_from_does_not_travel_to_who_has_it(federation, tmp_path, frozen):
    file = tmp_path / "model.safetensors"
    save_file(starting_weights(small_plan(seed=9), None), file)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    plan = plan_of(model={**small_plan().model.model_dump(), "pretrained": sha256, "frozen_stages": frozen})
    nodes = with_memory(federation(plan), tmp_path / "m")
    nodes[0]["pretrained"] = str(file)
    start = starting_weights(plan, file)
    schema = wire.Schema({name: w.shape for name, w in start.items()})
    grid = Watched(nodes)
    end = RoundLoop(grid, plan, schema, tmp_path / "run", Silent()).run(start)
    first = {node: arrays for kind, number, node, _, arrays in grid.sent if (kind, number) == ("train", 1)}
    assert first == {1: [], 2: [wire.PACKED], 3: [wire.PACKED]}
    assert not any(report.failed for report in end.history)
    frozen_ones = [name for name in start if name.startswith("encoder.features")]
    assert all(np.array_equal(end.weights[n], start[n]) for n in frozen_ones) is (frozen == 4)


def test_another_file_than_the_plan_s_is_said_and_not_used(federation, tmp_path):
    file = tmp_path / "model.safetensors"
    save_file(starting_weights(small_plan(seed=9), None), file)
    plan = plan_of(model={**small_plan().model.model_dump(), "pretrained": "0" * 64})
    nodes = [{**n, "pretrained": str(file)} for n in with_memory(federation(plan), tmp_path / "m")]
    with pytest.raises(RunError, match="SHA-256"):
        run_from(plan, nodes, tmp_path / "run", starting_weights(small_plan(seed=9), None))


def test_without_a_codec_all_get_all_and_nothing_is_said_beside_it():
    plan = small_plan()
    weights = starting_weights(plan, None)
    broadcast = Broadcast(plan, wire.Schema({k: w.shape for k, w in weights.items()}))
    assert broadcast.stepped(weights, weights, {}, 1) == (weights, {})
    assert Coder.of(plan, None) is None


@pytest.mark.slow
@pytest.mark.parametrize("method", ["FedAdam", "FedMedian", "SCAFFOLD", "FedBN", "Ditto"])
def test_every_kind_of_method_runs_coded_and_ends_near_itself(federation, tmp_path, method):
    options = {
        "strategy": {"name": method},
        "training": {"momentum": 0.0, "batch_size": 4, "learning_rate": 0.05},
    }
    plans = small_plan(rounds=2, **options), small_plan(rounds=2, codec={"name": "int8"}, **options)
    ends = []
    for k, plan in enumerate(plans):
        nodes = with_memory(federation(plan), tmp_path / f"m{k}")
        ends.append(run(plan, SequentialGrid(app, nodes), tmp_path / f"run{k}"))
    assert not any(r.failed or r.evaluation.failed for r in ends[1].history)
    assert ends[1].history[-1].evaluation.loss == pytest.approx(ends[0].history[-1].evaluation.loss, abs=0.05)
    assert identity(ends[0].weights) != identity(ends[1].weights)


@pytest.mark.slow
def test_a_site_that_is_sent_nothing_may_answer_with_a_large_update(tmp_path):
    """From the second round on: deployed, an answer was held to the size of its request."""
    plan = small_plan(rounds=2, codec={"name": "int8"})
    start = {"w": np.zeros((1000, 2000), np.float32)}
    coder, sent = Coder.of(plan, wire.Schema.of_weights(start)), []

    def answer(name, message):
        if message.metadata.message_type == "query":
            reply = honest(name, message)
            said = {**reply.content[wire.CONFIG], wire.HOLDS: ""}
            reply.content[wire.CONFIG] = ConfigRecord(said)
            return reply
        if message.metadata.message_type == "evaluate":
            return honest(name, message)
        rng = np.random.default_rng(len(sent))
        update = {"w": rng.standard_normal(start["w"].shape, np.float32) * np.float32(1e-3)}
        payload, _ = coder.encode(update, rng)
        sent.append((wire.payload_bytes(message), len(payload)))
        return Message(
            RecordDict({wire.ARRAYS: coder.pack(payload), wire.METRICS: train_numbers()}), reply_to=message
        )

    folder, service = make_server(tmp_path)
    sites = [SiteThread(make_site(tmp_path, name, folder), name, answer) for name in ("north", "south")]
    grid = FleetGrid(service.state, service.parcels, service.bells)
    try:
        wait_for("both sites", lambda: len(list(grid.get_node_ids())) == 2)
        deployment = Deployment("run1", 2, 60.0, service.site_of)
        schema = wire.Schema.of_weights(start)
        end = RoundLoop(grid, plan, schema, tmp_path / "run", Silent(), deployment).run(start)
    finally:
        grid.close()
        for site in sites:
            site.close()
        service.stop()
    assert [report.failed for report in end.history] == [{}, {}]
    assert all(down == 0 and up > 2**20 for down, up in sent[2:])
    assert max(up for _, up in sent) <= answer_bytes(plan, schema)


@pytest.mark.parametrize(
    "changes",
    [{}, {"codec": {"name": "int4"}}, {"aggregation": {"secure": True, "threshold": 2}}],
    ids=["plain", "codec", "secure"],
)
def test_each_request_to_train_says_how_large_its_answer_may_be(changes):
    plan = small_plan(**changes)
    weights = starting_weights(plan, None)
    schema = wire.Schema.of_weights(weights)
    requests = [Message(RecordDict({wire.CONFIG: ConfigRecord()}), 1, kind) for kind in ("train", "evaluate")]
    Broadcast(plan, schema).fill(requests, weights, {1: "north"})
    told = [request.content[wire.CONFIG].get(wire.TENSOR_BYTES) for request in requests]
    assert told == [answer_bytes(plan, schema), None]
    assert wire.payload_bytes(requests[0]) <= schema.packed_bytes
