"""A Flower Grid that runs the ClientApp on this machine: in this process, or in a pool of workers. No Ray, no
network.

Uses Flower's internals (metadata fields, TaskIdentity): held to one version by pyproject.toml and by
tests/simulation/test_grid.py.
"""

import itertools
import time
from collections import deque
from collections.abc import Iterable, Sequence
from multiprocessing.connection import wait

from flwr.app import Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from client.site_config import NodeConfig
from client.worker import Worker, answer, make_context

RUN_ID = 1


class SimulationGrid(Grid):
    """What both kinds share: numbering messages and waiting for replies. Nodes are 1 … n, one per node
    configuration."""

    def __init__(self, node_configs: Sequence[NodeConfig]) -> None:
        self.node_configs = {number: dict(config) for number, config in enumerate(node_configs, start=1)}
        self._numbers = itertools.count(1)
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = RUN_ID, SUPERLINK_NODE_ID, 1

    def set_run(self, run: Run) -> None:
        """There is one run only."""

    @property
    def run(self) -> Run:
        return Run.create_empty(RUN_ID)

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        return list(self.node_configs)

    def close(self) -> None:
        """Give back what the grid holds."""

    def _number(self, message: Message) -> str:
        message_id = f"message-{next(self._numbers)}"
        message.metadata.__dict__["_message_id"] = message_id
        return message_id

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        waiting = set(self.push_messages(messages))
        end = None if timeout is None else time.monotonic() + timeout
        replies: list[Message] = []
        while waiting and (end is None or time.monotonic() < end):
            arrived = list(self.pull_messages(waiting))
            replies += arrived
            waiting -= {reply.metadata.reply_to_message_id for reply in arrived}
            if not arrived:
                time.sleep(0.01)
        return replies


class SequentialGrid(SimulationGrid):
    """Runs one site after another in this process: each pull does the work of one message."""

    def __init__(self, client_app: ClientApp, node_configs: Sequence[NodeConfig]) -> None:
        super().__init__(node_configs)
        self._app = client_app
        self._contexts = {node: make_context(node, config) for node, config in self.node_configs.items()}
        self._queue: deque[tuple[str, Message]] = deque()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        queued = [(self._number(message), message) for message in messages]
        self._queue.extend(queued)
        return [message_id for message_id, _ in queued]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        wanted = set(message_ids)
        while self._queue:
            message_id, message = self._queue.popleft()
            if message_id in wanted:  # others belong to a round whose deadline is over
                return [answer(self._app, message, self._contexts[message.metadata.dst_node_id])]
        return []


class PoolGrid(SimulationGrid):
    """Runs sites in worker processes, each site always in the same one, so that its cohort and model stay
    warm there.

    Messages cross as Flower's protobuf, not as pickles. A worker that dies costs the messages it held.
    """

    def __init__(self, app: str, node_configs: Sequence[NodeConfig], workers: int, threads: int) -> None:
        """`app` names the ClientApp as Flower does, "client.app:app"; each of `workers` has `threads` torch
        threads."""
        super().__init__(node_configs)
        self._workers = [
            Worker(app, self.node_configs, threads) for _ in range(min(workers, len(node_configs)))
        ]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        ids = []
        for message in messages:
            ids.append(self._number(message))
            self._workers[(message.metadata.dst_node_id - 1) % len(self._workers)].give(ids[-1], message)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        wanted = set(message_ids)
        replies = [reply for worker in self._workers for reply in worker.take()]
        return [reply for reply in replies if reply.metadata.reply_to_message_id in wanted]

    def wait(self, message_ids: Sequence[str], seconds: float) -> None:
        """Return when a worker has an answer, or when `seconds` are over."""
        wait([worker.pipe for worker in self._workers if worker.held], timeout=seconds)

    def close(self) -> None:
        """End the workers."""
        for worker in self._workers:
            worker.stop()
