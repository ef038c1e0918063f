"""What a strategy remembers, to and from plain arrays."""

import numpy as np
from flwr.app import Array

from common.plan import Strategy
from server.strategies import build_strategy, restore_state, snapshot_state, to_flower
from tests.helpers.plans import small_plan


def test_a_strategy_s_memory_is_kept_in_whatever_form(tmp_path):
    one, other = (
        build_strategy(small_plan(strategy=Strategy(name="FedAvgM", options={"server_momentum": 0.5})))
        for _ in range(2)
    )
    one.momentum_vector = [np.arange(3.0), np.ones((2, 2))]
    one.current_arrays = to_flower({"w": np.ones(2, np.float32)})
    restore_state(other, snapshot_state(one))
    assert [a.tolist() for a in other.momentum_vector] == [[0, 1, 2], [[1, 1], [1, 1]]]
    assert isinstance(other.current_arrays["w"], Array)
