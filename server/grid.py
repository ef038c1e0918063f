"""A Flower Grid over the link state of the Fleet service in this process: messages to hospitals, replies from
them.

Flower's own HttpGrid waits for the slowest upload inside one pull; here a reply is handed over when all of it
is there, and the others are not held up. Uses Flower's internals (link state, inflatable objects): see
tests/server/test_grid.py.
"""

import threading
import time
from collections.abc import Iterable, Sequence
from typing import cast

from flwr.app import Error, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode, SubStatus
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import ObjectTree
from flwr.server.superlink.linkstate import LinkState
from flwr.serverapp import Grid
from flwr.supercore.constant import NOOP_FEDERATION_ID, TaskType
from flwr.supercore.inflatable.inflatable_object import (
    InflatableObject,
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.object_store import NoObjectInStoreError
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from common.errors import RunError

_HEARTBEAT_S = 15.0
_WHY = {
    ErrorCode.NODE_UNAVAILABLE: "the site went away",
    ErrorCode.MESSAGE_UNAVAILABLE: "no answer before the deadline",
}


class FleetGrid(Grid):
    """One run's messages. After `close` the run is over for the sites too."""

    def __init__(self, state: LinkState) -> None:
        self._state = state
        self._stopped = threading.Event()
        self._sent: dict[str, Message] = {}  # not answered yet
        self._arriving: dict[
            str, tuple[str, ObjectTree]
        ] = {}  # reply's id -> the message that it answers, its objects
        run_id = state.create_run(None, None, None, {}, NOOP_FEDERATION_ID, None, None, TaskType.SERVER_APP)
        (self._run,) = state.get_run_info(run_ids=[run_id])
        task = self._run.primary_task_id
        assert task is not None
        self._task: int = task
        state.claim_task(task)
        state.activate_task(task)
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = run_id, SUPERLINK_NODE_ID, task
        threading.Thread(target=self._beat, name="run-heartbeat", daemon=True).start()

    def _beat(self) -> None:
        while not self._stopped.wait(_HEARTBEAT_S) and self._state.acknowledge_task_heartbeat(self._task):
            pass

    def stop(self) -> None:
        """End the run from another thread: whoever waits for replies gets a RunError."""
        self._stopped.set()

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called, or the run is over."""
        return self._stopped.is_set()

    def close(self) -> None:
        """The run is over: what sites still send for it is refused."""
        self._stopped.set()
        self._forget(self._sent)
        self._state.finish_task(self._task, SubStatus.STOPPED, "")

    def set_run(self, run: Run) -> None:
        """There is one run a grid."""

    @property
    def run(self) -> Run:
        return self._run

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
        """The sites that are connected now."""
        return self._state.get_nodes(self._run.run_id)

    def push_messages(self, messages: Iterable[Message]) -> Sequence[str]:
        """Offer messages to sites. What was sent before and is not answered counts no more: rounds follow one
        another."""
        self._require_running()
        self._forget(self._sent)
        messages = list(messages)
        if not messages:
            return []
        session = self._state.start_session(self._run.run_id)
        ids: list[str] = []
        missing: dict[str, InflatableObject] = {}  # the weights are the same for all sites: stored once
        with no_object_id_recompute():
            for message in messages:
                message.metadata.__dict__["_message_id"] = message.object_id
                bare = message_from_proto(message_to_proto(remove_content_from_message(message)))
                stored, new = self._state.store_message_and_object_tree(
                    bare, get_object_tree(message), session
                )
                ids.append(
                    message.metadata.message_id if stored else ""
                )  # not, if the site was revoked a moment ago
                if stored:
                    self._sent[message.metadata.message_id] = message
                    objects = get_all_nested_objects(message)
                    missing |= {object_id: objects[object_id] for object_id in new}
            for object_id, answer in missing.items():
                self._state.store_object(self._run.run_id, session, object_id, answer.deflate())
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Sequence[Message]:
        """The replies that are wholly here."""
        self._require_running()
        wanted = set(message_ids) & self._sent.keys()
        on_the_way = {request for request, _ in self._arriving.values()}
        replies = []
        for answer in self._state.get_message_res(wanted - on_the_way, self._run.run_id):
            request = answer.metadata.reply_to_message_id
            if answer.has_error():
                replies.append(self._error(request, answer.error))
                continue
            try:
                tree = self._state.object_store.get_object_tree(answer.metadata.message_id)
                self._arriving[answer.metadata.message_id] = (request, tree)
            except NoObjectInStoreError:
                replies.append(self._cut_off(request))
        for reply_id, (request, tree) in list(self._arriving.items()):
            reply = self._assemble(reply_id, request, tree)
            if reply is not None:
                del self._arriving[reply_id]
                replies.append(reply)
        return replies

    def _assemble(self, reply_id: str, request: str, tree: ObjectTree) -> Message | None:
        """The reply, if every object of it has arrived; an error, if its upload broke off; None, if it is on
        the way."""
        ids = [node.object_id for node in iterate_object_tree(tree)]
        contents: dict[str, bytes] = {}
        for object_id in ids:
            content = self._state.get_object(self._run.run_id, object_id)
            if content is None:
                return self._cut_off(request)
            if content == b"":
                return None
            contents[object_id] = content
        self._state.object_store.delete(reply_id)
        self._finish(request)
        try:
            reply = cast(Message, inflate_object_from_contents(reply_id, contents))
        except Exception:  # what a hostile site may make Flower's decoders raise is not known
            return self._error_reply(request, Error(ErrorCode.UNKNOWN, "its reply cannot be decoded"))
        if not isinstance(reply, Message) or reply.metadata.reply_to_message_id != request:
            return self._error_reply(
                request, Error(ErrorCode.UNKNOWN, "its reply is not a message that answers ours")
            )
        reply.metadata.__dict__["_message_id"] = reply_id
        del self._sent[request]
        return reply

    def _cut_off(self, request: str) -> Message:
        return self._error(request, Error(ErrorCode.REPLY_MESSAGE_UNAVAILABLE, "its upload broke off"))

    def _error(self, request: str, error: Error) -> Message:
        self._finish(request)
        return self._error_reply(request, Error(error.code, _WHY.get(error.code, error.reason)))

    def _error_reply(self, request: str, error: Error) -> Message:
        reply = Message(error, reply_to=self._sent.pop(request))
        reply.metadata.__dict__["_reply_to_message_id"] = request
        return reply

    def _finish(self, request: str) -> None:
        self._state.delete_messages({request})
        self._state.object_store.delete(request)

    def _forget(self, requests: Iterable[str]) -> None:
        for request in list(requests):
            self._finish(request)
            self._sent.pop(request, None)
        for reply_id in self._arriving:
            self._state.object_store.delete(reply_id)
        self._arriving.clear()

    def _require_running(self) -> None:
        if self.stopped:
            raise RunError("stopped by the coordinator")

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        waiting = set(self.push_messages(messages))
        end = None if timeout is None else time.monotonic() + timeout
        replies: list[Message] = []
        while waiting and (end is None or time.monotonic() < end):
            arrived = self.pull_messages(waiting)
            replies += arrived
            waiting -= {reply.metadata.reply_to_message_id for reply in arrived}
            if not arrived:
                time.sleep(0.05)
        return replies
