"""Contract with the pinned Flower: fails clearly when an upgrade changes what the grids rely on."""

from importlib.metadata import version

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, RecordDict

from client.app import app as site_app
from common import wire
from common.models import build_model
from server.observer import Silent
from server.rounds import RoundLoop
from simulation.grid import PoolGrid, SequentialGrid
from tests.helpers.apps import fake_app
from tests.helpers.plans import small_plan


def ask(grid, do, nodes, timeout=60):
    messages = [Message(RecordDict({"config": ConfigRecord({"do": do})}), n, "query") for n in nodes]
    return {r.metadata.src_node_id: r for r in grid.send_and_receive(messages, timeout=timeout)}


def grids():
    return {
        "sequential": lambda: SequentialGrid(fake_app, [{}] * 3),
        "pool": lambda: PoolGrid("tests.helpers.apps:fake_app", [{}] * 3, 2, 1),
    }


def test_flower_is_the_minor_that_the_grids_were_made_for():
    assert version("flwr").startswith("1.41.")


@pytest.mark.slow
@pytest.mark.parametrize("kind", grids())
def test_replies_name_their_node_and_errors_keep_secrets(kind):
    grid = grids()[kind]()
    try:
        replies = ask(grid, "5", [1, 2, 3])
        assert {n: r.content["metrics"]["node"] for n, r in replies.items()} == {1: 1, 2: 2, 3: 3}
        assert ask(grid, "refuse", [2])[2].error.reason == "not with me"
        reason = ask(grid, "break", [1])[1].error.reason
        assert "RuntimeError" in reason
        assert "4711" not in reason
    finally:
        grid.close()


@pytest.mark.slow
def test_large_messages_queue_up_without_a_deadlock():
    grid = PoolGrid("tests.helpers.apps:fake_app", [{}] * 6, 2, 1)
    try:
        replies = ask(grid, "1000000", range(1, 7))
        assert len(replies) == 6
        assert len({r.content["metrics"]["pid"] for r in replies.values()}) == 2
    finally:
        grid.close()


@pytest.mark.slow
def test_a_worker_that_dies_costs_its_messages_only():
    grid = PoolGrid("tests.helpers.apps:fake_app", [{}] * 2, 2, 1)
    try:
        assert "process that trains ended" in ask(grid, "die", [1])[1].error.reason
        assert ask(grid, "5", [2])[2].has_content()
        assert "process that trains ended" in ask(grid, "5", [1])[1].error.reason
    finally:
        grid.close()


@pytest.mark.slow
def test_sequential_and_pool_give_the_same_bits(federation, tmp_path):
    import torch

    plan = small_plan()
    nodes = federation(plan)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    weights = []
    for grid in (SequentialGrid(site_app, nodes), PoolGrid("client.app:app", nodes, 2, 1)):
        try:
            model = build_model(plan)
            folder = tmp_path / type(grid).__name__
            weights.append(
                RoundLoop(grid, plan, wire.Schema.of(model), folder, Silent())
                .run(wire.get_weights(model))
                .weights
            )
        finally:
            grid.close()
    torch.set_num_threads(threads)
    assert all(np.array_equal(weights[0][k], weights[1][k]) for k in weights[0])
