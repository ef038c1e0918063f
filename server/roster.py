"""Which hospitals are in the federation: Flower knows numbers, people know names."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from common import wire
from common.errors import RunError, WireError
from common.plan import Plan
from common.text import printable

log = logging.getLogger("pneumofed.run")

POLL_S = 0.05
FIRST_POLL_S = 0.005
NO_ANSWER = "no answer before the deadline"
GREET_S = 300.0  # for an answer to the greeting; others wait for it
UNTIMED_S = 365 * 24 * 3600.0
ASK_SILENT_AGAIN_S = 600.0
ASK_AGAIN_S = (2.0, 60.0)  # a site that refused is asked again after the first, doubling up to the second


@runtime_checkable
class Waits(Protocol):
    """A grid that knows when a reply is there, and need not be asked again and again."""

    def wait(self, message_ids: Sequence[str], seconds: float) -> None: ...


def collect(grid: Grid, messages: Sequence[Message], deadline_s: float) -> Iterator[tuple[int, Message]]:
    """Send `messages` and yield (node, reply) as each arrives, until all have or the deadline is over.

    The deadline travels with the messages, so that a site does not work on for nobody. A reply is matched by
    the message that it answers: an error that the link makes for a dead site bears the link's own node
    number, not the site's.
    """
    for message in messages:
        message.metadata.ttl = deadline_s
    nodes = {
        message_id: message.metadata.dst_node_id
        for message_id, message in zip(grid.push_messages(messages), messages, strict=True)
        if message_id  # Flower returns None for a message that it could not send
    }
    end, pause = time.monotonic() + deadline_s, FIRST_POLL_S
    while nodes and time.monotonic() < end:
        arrived = list(grid.pull_messages(list(nodes)))
        for reply in arrived:
            node = nodes.pop(reply.metadata.reply_to_message_id, None)
            if node is not None:  # what nobody asked for, or was answered already, is passed over
                yield node, reply
        pause = FIRST_POLL_S if arrived else min(2 * pause, POLL_S)
        if arrived:
            continue
        if isinstance(grid, Waits):
            grid.wait(list(nodes), POLL_S)
        else:
            time.sleep(pause)


def objection(site: str, error: Exception) -> str:
    """Why a site's answer does not count, fit to be shown. Nothing that a site sends ends a round."""
    if isinstance(error, WireError):
        return printable(str(error), wire.MAX_REASON)
    log.warning("%s: its answer cannot be read", site, exc_info=error)
    return f"its answer cannot be read ({type(error).__name__})"


@dataclass(frozen=True)
class Deployment:
    """What a deployment adds to a plan. The defaults are a simulation's, where everybody is there and says
    who he is."""

    run: str = "simulation"
    """Tells this run of the plan from others; the same after a resume."""
    min_sites: int = 1
    """Sites that must be there before the first round (and before the first after a resume)."""
    wait_s: float = 0.0
    """For how long to wait for them."""
    site_of: Callable[[int], str | None] | None = None
    """Node -> the name under which the server admits it; None where the site's word is enough."""
    without: frozenset[str] = frozenset()
    """Admitted sites that are not asked."""
    n_admitted: Callable[[], float] = lambda: math.inf
    """How many sites could take part now: one whose admission was taken back is not waited for."""
    everybody: bool = False
    """Whether every node of the grid is a site of the run, as in a simulation: one that is not in counts as
    one that failed. In a deployment a hospital may stay away."""

    timed: bool = True
    """Whether a site has the plan's deadline. None has in a simulation, where one machine does the work of
    all: its speed, and who comes first, must not decide who counts."""

    def admitted_as(self, node: int) -> str | None:
        """The name under which the server admits a node now; None if it does not, or the site's word is
        enough."""
        return None if self.site_of is None else self.site_of(node)

    def deadline_s(self, plan: Plan) -> float:
        """For how long an answer is waited for."""
        return plan.federation.deadline_s if self.timed else UNTIMED_S

    def greet_s(self, plan: Plan) -> float:
        """For how long one to the greeting is."""
        return min(GREET_S, plan.federation.deadline_s) if self.timed else UNTIMED_S

    def at_most(self, needed: int) -> int:
        """`needed`, or all that could come where they are fewer; at least one."""
        return max(1, int(min(needed, self.n_admitted())))


@dataclass
class Roster:
    """Node -> name of each site that was greeted, what it said of itself, and why others are not in."""

    deployment: Deployment = field(default_factory=Deployment)
    names: dict[int, str] = field(default_factory=dict)
    declared: dict[str, dict[str, float | str]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    _ask_again: dict[int, tuple[float, float]] = field(
        default_factory=dict
    )  # node -> (when, the pause after that)

    def greet(self, grid: Grid, plan: Plan) -> None:
        """Ask every node that is not in yet for its name and numbers of patients, and show it the plan."""
        now = time.monotonic()
        strangers = [
            n
            for n in grid.get_node_ids()
            if n not in self.names
            and self._ask_again.get(n, (0.0, 0.0))[0] <= now
            and self.deployment.admitted_as(n) not in self.deployment.without
        ]
        config = ConfigRecord(
            {
                wire.PLAN_SHA256: plan.sha256,
                wire.RUN: self.deployment.run,
                wire.PLAN: plan.canonical,
            }
        )
        requests = [Message(RecordDict({wire.CONFIG: config}), node, MessageType.QUERY) for node in strangers]
        silent = set(strangers)
        for node, reply in collect(grid, requests, self.deployment.greet_s(plan)):
            silent.discard(node)
            try:
                self._admit(node, reply, plan)
            except Exception as e:  # nothing that a site sends ends the run
                self.refused[self.name(node)] = objection(self.name(node), e)
                pause = self._ask_again.get(node, (0.0, ASK_AGAIN_S[0]))[1]
                took = time.monotonic() - now  # the others waited for that long
                self._ask_again[node] = (now + took + max(pause, took), min(2 * pause, ASK_AGAIN_S[1]))
        for node in silent:  # each time would cost everybody that long
            self.refused[self.name(node)] = NO_ANSWER
            self._ask_again[node] = (time.monotonic() + ASK_SILENT_AGAIN_S, ASK_AGAIN_S[0])

    def _admit(self, node: int, reply: Message, plan: Plan) -> None:
        if reply.has_error():
            raise WireError(reply.error.reason)
        name, admitted = wire.get_text(reply.content, wire.SITE), self.deployment.admitted_as(node)
        if admitted is None and self.deployment.site_of is not None:
            raise WireError("its admission was taken back")
        if admitted is not None and name != admitted:
            raise WireError(f"the site admitted as {admitted} calls itself {name}")
        before = {n for n, known in self.names.items() if known == name}
        for gone in before:
            if admitted is not None and self.deployment.admitted_as(gone) is None:
                del self.names[gone]  # its key was revoked, and it came back with another
        if name in self.names.values():
            raise WireError(f"two sites call themselves {name}")
        numbers = wire.check_numbers(reply.content, wire.query_numbers(plan.findings))
        device = printable(wire.get_text(reply.content, wire.DEVICE))
        self.declared[name] = {**numbers, wire.DEVICE: device}
        if plan.codec.name != "none":
            self.declared[name][wire.HOLDS] = wire.get_identity(reply.content, wire.HOLDS)
        self.names[node] = name
        self.refused.pop(name, None)

    def ask(
        self,
        grid: Grid,
        requests: Sequence[Message],
        deadline_s: float,
        read: Callable[[str, RecordDict], None],
    ) -> dict[str, str]:
        """`read` takes each site's answer, or raises. Returns why others gave none that counts, by site."""
        silent = {self.name(r.metadata.dst_node_id): NO_ANSWER for r in requests}
        for node, reply in collect(grid, requests, deadline_s):
            site = self.name(node)
            try:
                if reply.has_error():
                    raise WireError(reply.error.reason)
                read(site, reply.content)
                del silent[site]
            except Exception as e:  # nothing that a site sends ends the run
                silent[site] = objection(site, e)
        return silent

    def name(self, node: int) -> str:
        """The site's name, or its number if nobody knows it."""
        return self.names.get(node) or self.deployment.admitted_as(node) or f"node {node}"

    def present(self, grid: Grid) -> list[int]:
        """The greeted nodes that are connected, by name: the same order in a simulation and in a
        deployment."""
        connected = set(grid.get_node_ids())
        return sorted((node for node in self.names if node in connected), key=self.names.__getitem__)

    def shortage(self, n_present: int, n_needed: int) -> RunError:
        """What to say when too few sites can take part, with the reason of each that refused."""
        reasons = "; ".join(f"{site}: {reason}" for site, reason in sorted(self.refused.items()))
        return RunError(
            f"{n_present} sites can take part, {n_needed} are needed" + (f": {reasons}" if reasons else "")
        )


class Members:
    """What Flower's strategies see of a grid: the nodes that they may choose from."""

    def __init__(self, nodes: Sequence[int]) -> None:
        self._nodes = list(nodes)

    def get_node_ids(self) -> list[int]:
        return list(self._nodes)
