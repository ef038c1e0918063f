"""The updates of one round: each is checked and folded in as it arrives."""

import numpy as np
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import Strategy

from common import wire
from common.aggregate import WeightedMean, apply_update
from common.codec import Coder
from common.errors import RunError, WireError
from common.plan import Plan
from common.results.rounds import UPDATE_NORM
from common.secure.levels import Bounds
from server.strategies import is_linear, is_mean, to_flower
from server.weighing import Scale


class Replies:
    """The updates of one round, each checked and folded in as it arrives.

    Rules that are linear in the replies (FedAvg and its kin) need only the running mean, whatever the number
    of sites; robust ones (median, Krum) need every reply, kept in the order of the sites' names.
    """

    def __init__(
        self, plan: Plan, schema: wire.Schema, weights: wire.Weights, n_members: int, scale: Scale
    ) -> None:
        self.plan, self.schema, self.weights, self.n_members = plan, schema, weights, n_members
        self.coder = Coder.of(plan, schema)
        self.scale = scale
        self.failed: dict[str, str] = {}
        """Site -> why its update is not in the mean."""
        self.noted: dict[str, str] = {}
        self.mean = WeightedMean(schema.shapes, plan.federation.max_update_norm)
        self.kept: dict[str, Message] = {}
        self.bounds: Bounds = {}
        """Of the next round's integers, where updates are masked and coded (common/secure/levels.py)."""

    def begin(self, requests: list[Message]) -> list[Message]:
        """What is to be sent of the round's requests, after what goes before them."""
        return requests

    def outcast(self) -> dict[str, str]:
        """Site -> why, of those without whom the round must begin anew."""
        return {}

    def finish(self) -> None:
        """What comes after the last reply."""

    def accept(self, site: str, reply: Message) -> wire.Numbers:
        """The reply's numbers. Raises WireError, and leaves no trace of it, if anything about the reply is
        off."""
        if reply.has_error():
            raise WireError(reply.error.reason)
        update = self._unpacked(arrays := wire.get_arrays(reply.content))
        wire.let_go(arrays)  # `update` holds them
        numbers = wire.check_numbers(reply.content, wire.TRAIN_NUMBERS)
        norm = wire.l2_norm(update)
        if norm > self.plan.federation.max_update_norm:
            raise WireError(
                f"update of norm {norm:.3g}, the plan allows {self.plan.federation.max_update_norm:g}"
            )
        weight = self.scale.weigh(site, numbers[wire.N_EXAMPLES])
        self.mean.add(update, weight)
        if is_linear(self.plan):
            reply.content = RecordDict()  # the mean holds what was in it
            self.kept = {site: reply}
        else:
            reply.content = self._as_weights(apply_update(self.weights, update), weight)
            self.kept[site] = reply
        return {**numbers, UPDATE_NORM: norm}

    def _unpacked(self, arrays: ArrayRecord) -> wire.Weights:
        if self.coder is None:
            return self.schema.unpack(arrays)
        return self.coder.decode(self.coder.payload_of(arrays))

    def _as_weights(self, weights: wire.Weights, n_examples: float) -> RecordDict:
        """What Flower's rules expect of a reply: whole weights and how much they count."""
        counts = MetricRecord({wire.N_EXAMPLES: n_examples})
        return RecordDict({wire.ARRAYS: to_flower(weights), wire.METRICS: counts})

    def aggregate(self, number: int, strategy: Strategy) -> wire.Weights:
        """The next global weights, by the plan's strategy."""
        if not is_linear(self.plan) and self.n_members == 1:  # alone: every robust rule is the identity
            (reply,) = self.kept.values()
            return self.schema.check(_as_float32(wire.get_arrays(reply.content)))
        if is_linear(self.plan) and is_mean(strategy):
            return self.schema.check(self.mean.updated(self.weights))
        if is_linear(self.plan):
            (reply,) = self.kept.values()
            reply.content = self._as_weights(self.mean.updated(self.weights), self.mean.weight)
            if self.plan.strategy.method.control:
                reply.content.metric_records[wire.METRICS][wire.SHARE] = self.scale.share(self.mean.weight)
        arrays, _ = strategy.aggregate_train(number, [self.kept[site] for site in sorted(self.kept)])
        if arrays is None:
            raise RunError(f"round {number}: {self.plan.strategy.name} gave no weights")
        return self.schema.check(_as_float32(arrays))


def _as_float32(arrays: ArrayRecord) -> wire.Weights:
    """Flower's adaptive strategies return float64: round once, here."""
    return {name: np.asarray(array.numpy(), dtype=np.float32) for name, array in arrays.items()}
