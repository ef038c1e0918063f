"""A grid of sites that a script answers for."""

import random

from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict

from common import wire
from simulation.grid import SimulationGrid


class ScriptedGrid(SimulationGrid):
    """Sites that answer at once, in a random order, with the update that a script gives them."""

    def __init__(self, script, n_sites=5, silent=()):
        super().__init__([{}] * n_sites)
        self.script, self.silent, self.waiting, self.rounds = script, silent, [], []

    def push_messages(self, messages):
        ids = [self._number(m) for m in messages]
        self.waiting += messages
        random.Random(len(ids)).shuffle(self.waiting)
        return ids

    def pull_messages(self, message_ids):
        if not self.waiting:
            return []
        message = self.waiting.pop()
        node, kind = message.metadata.dst_node_id, message.metadata.message_type
        if kind == "query":
            config = {wire.SITE: f"site-{node}", wire.DEVICE: "cpu"}
            numbers = {wire.N_EXAMPLES: 10, **dict.fromkeys(wire.query_numbers(("pneumonia",)), 10)}
            numbers[wire.N_TRAIN] = 10 * node  # as in `reply`
            return [
                Message(
                    RecordDict({wire.CONFIG: ConfigRecord(config), wire.METRICS: MetricRecord(numbers)}),
                    reply_to=message,
                )
            ]
        if node in self.silent:
            return []
        if kind == "evaluate":
            numbers = {wire.N_EXAMPLES: 10, **dict.fromkeys(wire.EVALUATE_NUMBERS, 0.5)}
            return [Message(RecordDict({wire.METRICS: MetricRecord(numbers)}), reply_to=message)]
        return [self.script(node, message)]


def reply(message, arrays, n=None, **numbers):
    node = message.metadata.dst_node_id
    metrics = {wire.N_EXAMPLES: n or 10 * node, wire.LOSS: 1.0, wire.STEPS: 3, wire.SECONDS: 0.1, **numbers}
    return Message(
        RecordDict({wire.ARRAYS: wire.pack(arrays), wire.METRICS: MetricRecord(metrics)}), reply_to=message
    )
