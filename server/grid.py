"""A Flower Grid over the link state of the Fleet service in this process: messages to hospitals, replies from
them.

Flower's own HttpGrid waits for the slowest upload inside one pull; here a reply is handed over when all of it
is there (server/parcels.py), and the others are not held up. Uses Flower's internals (link state, inflatable
objects): see tests/server/test_grid.py.
"""

import gc
import threading
import time
from collections.abc import Iterable, Sequence

from flwr.app import ConfigRecord, Error, Message, MessageType, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode, SubStatus
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.server.superlink.linkstate import LinkState
from flwr.serverapp import Grid
from flwr.supercore.constant import NOOP_FEDERATION_ID, TaskType
from flwr.supercore.inflatable.inflatable_object import (
    InflatableObject,
    no_object_id_recompute,
)
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from common import wire
from common.errors import RunError, WireError
from common.objects import fold
from server import steady
from server.bells import Bells
from server.parcels import Parcel, Parcels

_HEARTBEAT_S = 15.0
_WHY = {
    ErrorCode.NODE_UNAVAILABLE: "the site went away",
    ErrorCode.MESSAGE_UNAVAILABLE: "no answer before the deadline",
}


class FleetGrid(Grid):
    """One run's messages. After `close` the run is over for the sites too."""

    def __init__(self, state: LinkState, parcels: Parcels, bells: Bells) -> None:
        self._state, self._parcels, self._bells = state, parcels, bells
        self._stopped, self._settled = threading.Event(), False
        self._sent: dict[str, Message] = {}  # not answered yet
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
        """Offer messages to sites, from the store: `messages` are empty after it. What was sent before and is
        not answered counts no more: rounds follow one another."""
        self._require_running()
        self._forget(self._sent)
        messages = list(messages)
        if not messages:  # while a run waits for sites, twenty times a second
            return []
        self._tidy()
        session = self._state.start_session(self._run.run_id)
        ids: list[str] = []
        missing: dict[str, InflatableObject] = {}  # the weights are the same for all sites: stored once
        with no_object_id_recompute():
            for message in messages:
                message.metadata.__dict__["_created_at"] = steady.now().timestamp()
                message.metadata.__dict__["_message_id"] = request = message.object_id
                bare = message_from_proto(message_to_proto(remove_content_from_message(message)))
                self._parcels.expect(
                    request, message.metadata.dst_node_id, self._run.run_id, _answer_bytes(message)
                )
                tree, objects = fold(message)
                stored, new = self._state.store_message_and_object_tree(bare, tree, session)
                ids.append(request if stored else "")  # not, if the site was revoked a moment ago
                if stored:
                    self._sent[request] = message
                    missing |= {object_id: objects[object_id] for object_id in new}
                else:
                    self._parcels.forget([request])
            # A message after its parts: one that is there is whole.
            for object_id, answer in sorted(missing.items(), key=lambda one: one[0] in self._sent):
                self._state.store_object(self._run.run_id, session, object_id, answer.deflate())
        for message in messages:
            for arrays in message.content.array_records.values():
                wire.let_go(arrays)  # the store holds what is in them
            message.content = RecordDict()
            self._bells.ring(message.metadata.dst_node_id)
        return ids

    def _tidy(self) -> None:
        """Let go of the last round's tensors: Flower's records hold themselves until Python looks for
        that."""
        gc.collect()
        if not self._settled:  # what is there now stays, and need not be looked at again
            gc.freeze()
            self._settled = True

    def pull_messages(self, message_ids: Iterable[str]) -> Sequence[Message]:
        """A reply that is wholly here, if there is one, and an error for each that will not come."""
        self._require_running()
        parcel = self._parcels.take(set(message_ids) & self._sent.keys())
        replies = [] if parcel is None else [self._open(parcel)]
        waiting = set(message_ids) & self._sent.keys()
        lost = self._state.get_message_res(waiting, self._run.run_id)  # in this state there are errors alone
        for error in lost:  # Flower keeps those that it makes
            self._state.object_store.delete(error.metadata.message_id)
        return replies + [self._error(e.metadata.reply_to_message_id, e.error) for e in lost]

    def wait(self, message_ids: Sequence[str], seconds: float) -> None:
        """Return when there is a reply to one of these, or when `seconds` are over."""
        self._parcels.wait(message_ids, seconds)

    def _open(self, parcel: Parcel) -> Message:
        try:
            reply = parcel.open()
        except WireError as e:
            return self._error(parcel.request, Error(ErrorCode.UNKNOWN, f"its reply is not taken: {e}"))
        self._finish(parcel.request)
        del self._sent[parcel.request]
        return reply

    def _error(self, request: str, error: Error) -> Message:
        self._finish(request)
        reply = Message(
            Error(error.code, _WHY.get(error.code, error.reason)), reply_to=self._sent.pop(request)
        )
        reply.metadata.__dict__["_reply_to_message_id"] = request
        return reply

    def _finish(self, request: str) -> None:
        self._parcels.forget([request])
        self._state.delete_messages({request})
        self._state.object_store.delete(request)

    def _forget(self, requests: Iterable[str]) -> None:
        for request in list(requests):
            self._finish(request)
            self._sent.pop(request, None)

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
                self.wait(list(waiting), 0.05)
        return replies


def _answer_bytes(request: Message) -> int:
    """A site sends tensors back from training, and where it is asked for a model of its own: as many as the
    request says."""
    config = request.content.config_records.get(wire.CONFIG, ConfigRecord())
    most = config.get(wire.TENSOR_BYTES, 0)
    may_send = request.metadata.message_type in (MessageType.TRAIN, wire.EVALUATE_OWN)
    return most if may_send and isinstance(most, int) else 0
