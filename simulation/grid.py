"""A Flower Grid that runs the ClientApp on this machine: in this process, or in a pool of workers. No Ray, no network.

Uses Flower's internals (metadata fields, TaskIdentity, protobuf serde): held to one minor version by pyproject.toml and
by tests/simulation/test_grid.py.
"""

import contextlib
import itertools
import logging
import multiprocessing as mp
import os
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from common.errors import PneumofedError

log = logging.getLogger("pneumofed.simulation")

RUN_ID = 1
NodeConfig = Mapping[str, str | int | float | bool]


class SimulationGrid(Grid):
    """What both kinds share: numbering messages and waiting for replies. Nodes are 1 … n, one per node configuration."""

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
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
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

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
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
    """Runs sites in worker processes, each site always in the same one, so that its cohort and model stay warm there.

    Messages cross as Flower's protobuf, not as pickles. A worker that dies costs the messages it held.
    """

    def __init__(self, app: str, node_configs: Sequence[NodeConfig], workers: int, threads: int) -> None:
        """`app` names the ClientApp as Flower does, "client.app:app"; each of `workers` has `threads` torch threads."""
        super().__init__(node_configs)
        context = mp.get_context("spawn")
        self._workers = [_Worker(context, app, self.node_configs, threads) for _ in range(min(workers, len(node_configs)))]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        ids = []
        for message in messages:
            ids.append(self._number(message))
            self._workers[(message.metadata.dst_node_id - 1) % len(self._workers)].give(ids[-1], message)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        wanted = set(message_ids)
        wait([worker.pipe for worker in self._workers if worker.held], timeout=0.05)
        replies = [reply for worker in self._workers for reply in worker.take()]
        return [reply for reply in replies if reply.metadata.reply_to_message_id in wanted]

    def close(self) -> None:
        """End the workers."""
        for worker in self._workers:
            worker.stop()


class _Worker:
    """One process, the messages it holds, and the pipe between."""

    def __init__(self, context: Any, app: str, node_configs: Mapping[int, NodeConfig], threads: int) -> None:
        self.pipe, theirs = context.Pipe()
        self.held: dict[str, Message] = {}  # in order; the first is with the process, the others wait here
        self.process = context.Process(target=_work, args=(theirs, app, node_configs, threads), daemon=True)
        self.process.start()
        theirs.close()

    def give(self, message_id: str, message: Message) -> None:
        self.held[message_id] = message
        if len(self.held) == 1:
            self._send(message)

    def _send(self, message: Message) -> None:
        # One at a time: with two in the pipe, both ends could wait for ever for the other to read.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it died: take() answers for it
            self.pipe.send_bytes(message_to_proto(message).SerializeToString())

    def take(self) -> list[Message]:
        replies = []
        try:
            while self.held and self.pipe.poll():
                reply = message_from_proto(ProtoMessage.FromString(self.pipe.recv_bytes()))
                self.held.pop(reply.metadata.reply_to_message_id, None)
                replies.append(reply)
                if self.held:
                    self._send(next(iter(self.held.values())))
        except (EOFError, ConnectionResetError):
            reason = f"its worker process ended with code {self.process.exitcode}"
            replies += [Message(Error(ErrorCode.CLIENT_APP_CRASHED, reason), reply_to=m) for m in self.held.values()]
            self.held.clear()
        return replies

    def stop(self) -> None:
        self.pipe.close()
        self.process.join(timeout=2)
        if self.process.is_alive():
            self.process.kill()


def _work(pipe: Connection, app_name: str, node_configs: Mapping[int, NodeConfig], threads: int) -> None:
    """A worker: answers messages until its pipe closes."""
    import importlib
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's; the pipe closes with it
    from client.training.device import set_up_process

    set_up_process(threads)
    module, _, attribute = app_name.partition(":")
    app: ClientApp = getattr(importlib.import_module(module), attribute)
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = RUN_ID, os.getpid(), 1
    contexts = {node: make_context(node, config) for node, config in node_configs.items()}
    try:
        while True:
            message = message_from_proto(ProtoMessage.FromString(pipe.recv_bytes()))
            reply = answer(app, message, contexts[message.metadata.dst_node_id])
            pipe.send_bytes(message_to_proto(reply).SerializeToString())
    except (EOFError, OSError):
        return


def make_context(node: int, config: NodeConfig) -> Context:
    """The Flower context of one site."""
    return Context(run_id=RUN_ID, node_id=node, node_config=dict(config), state=RecordDict(), run_config={})


def answer(app: ClientApp, message: Message, context: Context) -> Message:
    """The app's reply; what it raises becomes an error reply, as in a deployment.

    The reason says what went wrong only for our own errors, whose texts are made for others to read.
    """
    try:
        return app(message, context)
    except PneumofedError as e:
        reason = str(e)
    except Exception as e:  # a site may fail in any way, and the others go on
        log.exception("node %s failed in %s", context.node_id, message.metadata.message_type)
        reason = f"{type(e).__name__} in {message.metadata.message_type}; the traceback is in run.log"
    return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=message)
