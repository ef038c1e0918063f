"""Updates are folded in as they arrive; one that is refused leaves no trace."""

import numpy as np
import pytest
from flwr.app import Error, Message, RecordDict

from client.app import app
from common.errors import WireError
from common.results.rounds import UPDATE_NORM
from server.replies import Replies
from server.strategies import build_strategy
from server.weighing import Scale
from simulation.grid import SequentialGrid
from tests.helpers.grids import SCHEMA, START, reply, update
from tests.helpers.plans import small_plan

DECLARED = {"a": 1000.0, "b": 1000.0}


@pytest.fixture(autouse=True)
def run():
    """Flower's messages belong to one."""
    return SequentialGrid(app, [])


def asked(node):
    return Message(RecordDict(), node, "train")


def folded(plan, order):
    replies = Replies(plan, SCHEMA, START, len(order), Scale(plan, DECLARED))
    requests = [asked(node) for node in order.values()]
    assert replies.begin(requests) is requests
    numbers = {
        site: replies.accept(site, reply(asked(node), update(node, 1))) for site, node in order.items()
    }
    replies.finish()
    return replies.aggregate(1, build_strategy(plan)), numbers


def test_the_order_of_arrival_changes_no_bit():
    plan = small_plan()
    one, numbers = folded(plan, {"a": 1, "b": 2})
    two, _ = folded(plan, {"b": 2, "a": 1})
    assert all(np.array_equal(one[name], two[name]) for name in one)
    flat = np.concatenate([value.reshape(-1) for value in update(1, 1).values()])
    assert numbers["a"][UPDATE_NORM] == pytest.approx(float(np.linalg.norm(flat.astype(np.float64))))


@pytest.mark.parametrize("strategy", ["FedAvg", "FedMedian"])
def test_what_is_refused_leaves_no_trace(strategy):
    plan = small_plan(strategy={"name": strategy}, federation={"max_update_norm": 50.0})
    replies = Replies(plan, SCHEMA, START, 2, Scale(plan, DECLARED))
    replies.accept("a", reply(asked(1), update(1, 1)))
    large = {name: value + np.float32(1000) for name, value in update(2, 1).items()}
    with pytest.raises(WireError, match="update of norm"):
        replies.accept("b", reply(asked(2), large))
    with pytest.raises(WireError, match="away"):
        replies.accept("b", Message(Error(1, "away"), reply_to=asked(2)))
    assert list(replies.kept) == ["a"]
    assert replies.mean.weight == 10
