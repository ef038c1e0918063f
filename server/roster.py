"""Which hospitals are in the federation: Flower knows numbers, people know names."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from common import wire
from common.errors import RunError, WireError
from common.plan import Plan

POLL_S = 0.05


def collect(grid: Grid, messages: Sequence[Message], deadline_s: float) -> Iterator[tuple[int, Message]]:
    """Send `messages` and yield (node, reply) as each arrives, until all have or the deadline is over.

    A reply is matched by the message that it answers: an error that the link makes for a dead site bears the link's
    own node number, not the site's.
    """
    nodes = {
        message_id: message.metadata.dst_node_id
        for message_id, message in zip(grid.push_messages(messages), messages, strict=True)
        if message_id  # Flower returns None for a message that it could not send
    }
    end = time.monotonic() + deadline_s
    while nodes and time.monotonic() < end:
        arrived = list(grid.pull_messages(list(nodes)))
        for reply in arrived:
            yield nodes.pop(reply.metadata.reply_to_message_id), reply
        if not arrived:
            time.sleep(POLL_S)


@dataclass
class Roster:
    """Node -> name of each site that was greeted, and what it said of itself."""

    names: dict[int, str] = field(default_factory=dict)
    about: dict[str, dict[str, float | str]] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)

    def greet(self, grid: Grid, plan: Plan) -> None:
        """Ask every node that is not known yet for its name and numbers of patients."""
        strangers = [node for node in grid.get_node_ids() if node not in self.names]
        config = ConfigRecord({wire.PLAN_SHA256: plan.sha256})
        requests = [Message(RecordDict({wire.CONFIG: config}), node, MessageType.QUERY) for node in strangers]
        self.refused = {}
        for node, reply in collect(grid, requests, plan.federation.deadline_s):
            try:
                self._admit(node, reply)
            except WireError as e:
                self.refused[node] = str(e)

    def _admit(self, node: int, reply: Message) -> None:
        if reply.has_error():
            raise WireError(reply.error.reason)
        name = wire.get_text(reply.content, wire.SITE)
        if name in self.about:
            raise WireError(f"two sites call themselves {name}")
        numbers = wire.check_numbers(reply.content, wire.QUERY_NUMBERS)
        self.about[name] = {**numbers, wire.DEVICE: wire.get_text(reply.content, wire.DEVICE)}
        self.names[node] = name

    def require(self, n_needed: int) -> None:
        """Raise RunError, with what each refused node said, if fewer than `n_needed` sites are in."""
        if len(self.names) < max(n_needed, 1):
            raise RunError(
                f"{len(self.names)} sites can take part, {max(n_needed, 1)} are needed" + _reasons(self.refused.values())
            )


def _reasons(reasons: Iterable[str]) -> str:
    unique = sorted(set(reasons))
    return ": " + "; ".join(unique) if unique else ""
