"""The process that trains: it answers messages with the ClientApp, apart from whoever talks to the server.

A crash in it (CUDA out of memory, a bad driver, the kernel's OOM killer) costs the messages it held, nothing
else. Messages cross as Flower's protobuf, not as pickles.

Uses Flower's internals (protobuf serde): held to one version by pyproject.toml and by
tests/deployment/test_boundary.py.
"""

import contextlib
import importlib
import logging
import multiprocessing as mp
import signal
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection

from flwr.app import Array, ArrayRecord, Context, Error, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.clientapp import ClientApp
from flwr.common.serde import message_from_proto, message_to_proto, recorddict_to_proto
from flwr.proto.message_pb2 import Message as ProtoMessage

from client.site_config import NodeConfig
from common import wire
from common.errors import PneumofedError, RefusedError, WireError
from common.logs import logs_as_service, origin, set_up_child_logs

log = logging.getLogger("pneumofed.worker")
INNERMOST = 3  # places of what was raised that its reason names


class Worker:
    """One process, the messages it holds, and the pipe between."""

    def __init__(self, app: str, node_configs: Mapping[int, NodeConfig], threads: int | None) -> None:
        """`app` names the ClientApp as Flower does, "client.app:app"; `node_configs` are the nodes that it
        answers for."""
        context = mp.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        given = theirs, app, dict(node_configs), threads, logs_as_service()
        self.held: dict[str, Message] = {}  # in order; the first is with the process, the others wait here
        self.process = context.Process(target=_work, args=given, daemon=True)
        self.process.start()
        theirs.close()

    def give(self, message_id: str, message: Message) -> None:
        """Queue a message; `take` has its reply in time."""
        self.held[message_id] = message
        if len(self.held) == 1:
            self._send(message)

    def _send(self, message: Message) -> None:
        # One at a time: with two in the pipe, both ends could wait for ever for the other to read.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it died: take() answers for it
            send(self.pipe, message)

    def take(self, timeout: float = 0.0) -> list[Message]:
        """The replies that are there, waiting up to `timeout` seconds for the first. Errors, if the process
        has died."""
        replies: list[Message] = []
        try:
            while self.held and self.pipe.poll(0.0 if replies else timeout):
                reply = receive(self.pipe)
                self.held.pop(reply.metadata.reply_to_message_id, None)
                replies.append(reply)
                if self.held:
                    self._send(next(iter(self.held.values())))
        except (EOFError, ConnectionResetError):
            self.process.join(timeout=1)
            reason = f"the process that trains ended with code {self.process.exitcode}"
            replies += [Message(Error(wire.SITE_CRASHED, reason), reply_to=m) for m in self.held.values()]
            self.held.clear()
        return replies

    @property
    def alive(self) -> bool:
        return self.process.is_alive()

    def stop(self) -> None:
        """End the process, whatever it is doing."""
        self.pipe.close()
        self.process.join(timeout=0 if self.held else 2)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def _work(
    pipe: Connection,
    app_name: str,
    node_configs: Mapping[int, NodeConfig],
    threads: int | None,
    of_service: bool,
) -> None:
    """A worker: answers messages until its pipe closes."""
    if of_service:
        set_up_child_logs()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's; the pipe closes with it
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    from client.compute.device import set_up_process

    set_up_process(threads)
    sites = Sites(app_name, node_configs)
    try:
        while True:
            send(pipe, sites.answer(receive(pipe)))
    except (EOFError, OSError):
        return


class Sites:
    """The sites that a process answers for, with the ClientApp."""

    def __init__(self, app: str, node_configs: Mapping[int, NodeConfig]) -> None:
        """As a Worker's."""
        module, _, attribute = app.partition(":")
        self._app: ClientApp = getattr(importlib.import_module(module), attribute)
        self._contexts = {node: make_context(node, config) for node, config in node_configs.items()}

    def answer(self, message: Message) -> Message:
        """See `answer`."""
        return answer(self._app, message, self._contexts[message.metadata.dst_node_id])


def send(pipe: Connection, message: Message) -> None:
    """A message through a pipe, in parts."""
    for part in to_parts(message):
        pipe.send_bytes(part)


def receive(pipe: Connection) -> Message:
    """What `send` sent. Raises EOFError where the other end is gone."""
    return from_parts(pipe.recv_bytes)


def to_parts(message: Message) -> list[bytes]:
    """Flower's protobuf without its arrays' bytes, then those as they are. Within the protobuf they would be
    copied five times."""
    if not message.has_content():
        return [message_to_proto(message).SerializeToString()]
    proto, content, arrays = message_to_proto(remove_content_from_message(message)), RecordDict(), []
    for name, record in message.content.items():
        if isinstance(record, ArrayRecord):
            arrays += [array.data for array in record.values()]
            record = ArrayRecord({k: Array(a.dtype, a.shape, a.stype, b"") for k, a in record.items()})
        content[name] = record
    proto.content.CopyFrom(recorddict_to_proto(content))
    return [proto.SerializeToString(), *arrays]


def from_parts(next_part: Callable[[], bytes]) -> Message:
    """What `to_parts` took apart."""
    message = message_from_proto(ProtoMessage.FromString(next_part()))
    if message.has_content():
        for record in message.content.array_records.values():
            for array in record.values():
                array.data = next_part()
    return message


def make_context(node: int, config: NodeConfig) -> Context:
    """The Flower context of one site."""
    return Context(run_id=1, node_id=node, node_config=dict(config), state=RecordDict(), run_config={})


def answer(app: ClientApp, message: Message, context: Context) -> Message:
    """The app's reply; what it raises becomes an error reply, whose code tells who may read its reason
    (common/wire.py)."""
    try:
        return app(message, context)
    except PneumofedError as e:
        code = wire.SITE_REFUSES if isinstance(e, (RefusedError, WireError)) else wire.SITE_FAILS
        reason = str(e)
    except Exception as e:  # a site may fail in any way, and the others go on
        log.exception("failed in %s", message.metadata.message_type)
        code = wire.SITE_CRASHED
        place = ", ".join(origin(e.__traceback__)[-INNERMOST:])
        reason = f"{type(e).__name__} in {message.metadata.message_type}, raised in {place}"
    return Message(Error(code, reason), reply_to=message)
