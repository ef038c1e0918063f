"""A grid of sites that a script answers for."""

import random

import numpy as np
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict

from common import wire
from common.models import build_model
from simulation.grid import SimulationGrid
from tests.helpers.plans import small_plan

SCHEMA = wire.Schema.of(build_model(small_plan()))
START = wire.get_weights(build_model(small_plan()))


def update(node, number=1):
    """What a site answers in a round: small, and its own."""
    rng = np.random.default_rng([node, number])
    return {name: rng.normal(0, 0.1, shape).astype(np.float32) for name, shape in SCHEMA.shapes.items()}


class ScriptedGrid(SimulationGrid):
    """Sites that answer at once, in a random order, with the update that a script gives them; `losses` are on
    their validation patients, after each round."""

    def __init__(self, script, n_sites=5, silent=(), losses=()):
        super().__init__([{}] * n_sites)
        self.losses = dict(enumerate(losses, start=1))
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
            numbers[wire.N_TEST] = 80
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
            numbers[wire.LOSS] = self.losses.get(wire.get_round(message.content), 0.5)
            return [Message(RecordDict({wire.METRICS: MetricRecord(numbers)}), reply_to=message)]
        answer = self.script(node, message)
        return [] if answer is None else [answer]


def reply(message, arrays, n=None, **numbers):
    node = message.metadata.dst_node_id
    metrics = {wire.N_EXAMPLES: n or 10 * node, wire.LOSS: 1.0, wire.STEPS: 3, wire.SECONDS: 0.1, **numbers}
    return Message(
        RecordDict({wire.ARRAYS: wire.pack(arrays), wire.METRICS: MetricRecord(metrics)}), reply_to=message
    )
