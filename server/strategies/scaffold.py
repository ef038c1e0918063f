"""SCAFFOLD (Karimireddy et al., 2020, "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning"),
the server's part.

x <- x + mean(Δx),  c <- c + |S| / N mean(Δc): of the N sites, S answered. A site counts by its patients, in
both means and in the share |S| / N, so that c stays the mean of the sites' control variates under the same
weights as the objective.
Sites: client/methods/scaffold.py.
"""

from collections.abc import Iterable

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg

from common import wire


class Scaffold(FedAvg):
    """FedAvg of the weights, and of the control variates in proportion to who answered."""

    _before: ArrayRecord

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """As FedAvg's."""
        self._before = arrays
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """`replies` is the one averaged reply, whose metrics say which share of all weights is in it."""
        (reply,) = replies
        share = float(reply.content.metric_records[wire.METRICS][wire.SHARE])  # type: ignore[arg-type]
        averaged = reply.content.array_records[wire.ARRAYS]
        arrays = {name: array.numpy() for name, array in averaged.items()}
        for name in arrays:
            if name.startswith(wire.CONTROL):
                before = self._before[name].numpy()
                arrays[name] = (before + share * (arrays[name] - before)).astype(np.float32)
        return ArrayRecord({name: Array(array) for name, array in arrays.items()}), None
