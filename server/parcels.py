"""What sites send back: each reply in a parcel of its own, of at most the agreed size, opened when all is
there.

Flower's object store would keep it among the server's own messages, where a site can occupy the name of one
that is yet to be sent, and would draw its tree again as often as the site names a branch.
"""

import hashlib
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from flwr.app import Message
from flwr.proto.fleet_pb2 import PushMessagesRequest, PushMessagesResponse
from flwr.proto.message_pb2 import ObjectTree, PushObjectRequest

from common.errors import WireError
from common.objects import SPARE_BYTES, most_objects, unfold, walk
from server.spool import Spool


@dataclass
class Parcel:
    """The reply to one request, as far as it has come."""

    request: str
    node: int
    run: int
    tensor_bytes: int
    """The most that its tensors may have."""
    reply: str = ""
    """Its object's id; empty until the site announces it."""
    missing: set[str] = field(default_factory=set)
    contents: Spool = field(default_factory=lambda: Spool(None))
    n_bytes: int = 0
    objection: str = ""
    """Why it is not taken."""

    @property
    def done(self) -> bool:
        """Whether nothing more is waited for."""
        return bool(self.objection or (self.reply and not self.missing))

    def announce(self, reply: str, tree: ObjectTree) -> None:
        """What will come. The same may be announced again, as after a broken connection; nothing else."""
        if self.reply == reply:
            return
        try:
            objects = set(walk(tree, most_objects(self.tensor_bytes)))
        except WireError as e:
            self.refuse(str(e))
            return
        if self.reply or tree.object_id != reply:
            self.refuse("it is not the one that was announced")
        elif not self.objection:
            self.reply, self.missing = reply, objects

    def put(self, object_id: str, content: bytes, digest: str) -> bool:
        """Keep an object, whose SHA-256 is `digest`; False if it is not taken."""
        if object_id in self.contents:
            return True
        if object_id not in self.missing:
            return False
        self.n_bytes += len(content)
        if digest != object_id:
            self.refuse("an object is not what its name says")
        elif self.n_bytes > self.tensor_bytes + SPARE_BYTES:
            self.refuse(f"it is larger than the agreed {self.tensor_bytes} bytes")
        else:
            self._keep(object_id, content)
        return not self.objection

    def _keep(self, object_id: str, content: bytes) -> None:
        try:
            self.contents[object_id] = content
            self.missing.discard(object_id)
        except OSError as e:
            self.refuse(f"the server cannot keep it: {e.strerror or e}")

    def refuse(self, why: str) -> None:
        """Nothing more of it is taken, and what was there is let go."""
        self.objection = why
        self.missing = set()
        self.contents.clear()

    def open(self) -> Message:
        """The message. Raises WireError if it is none, or none that answers the request."""
        if self.objection:
            raise WireError(self.objection)
        try:
            message = unfold(self.reply, self.contents, self.tensor_bytes)
        finally:
            self.contents.clear()
        if message.metadata.reply_to_message_id != self.request:
            raise WireError("it does not answer our message")
        return message


class Parcels:
    """Those of all requests that are not answered yet. What a site sends touches its own alone."""

    def __init__(self, folder: Path | None = None) -> None:
        """`folder` is on the disk where they wait until they are whole (spool.py)."""
        self._folder = folder
        self._parcels: dict[str, Parcel] = {}
        self._lock = threading.Lock()
        self._came = threading.Condition(self._lock)

    def expect(self, request: str, node: int, run: int, tensor_bytes: int) -> None:
        """Take a reply to `request` from `node`, with at most `tensor_bytes` of tensors."""
        with self._lock:
            self._parcels[request] = Parcel(request, node, run, tensor_bytes, contents=Spool(self._folder))

    def forget(self, requests: Iterable[str]) -> None:
        """Whatever comes for these is not waited for any more."""
        with self._lock:
            for request in requests:
                if parcel := self._parcels.pop(request, None):
                    parcel.contents.clear()

    def take(self, requests: Iterable[str]) -> Parcel | None:
        """One that is done, taken out: opened one by one, they need the memory of one."""
        with self._lock:
            request = self._done(requests)
            return None if request is None else self._parcels.pop(request)

    def wait(self, requests: Iterable[str], seconds: float) -> None:
        """Return when one of these may be taken, or when `seconds` are over."""
        with self._came:
            self._came.wait_for(lambda: self._done(requests) is not None, seconds)

    def _done(self, requests: Iterable[str]) -> str | None:
        return next((r for r in requests if r in self._parcels and self._parcels[r].done), None)

    def announce(self, request: PushMessagesRequest) -> PushMessagesResponse:
        """A site's `push-messages`: which objects of its reply are still to come; none if nobody waits."""
        answer = PushMessagesResponse()
        if len(request.messages_list) != 1 or len(request.message_object_trees) != 1:
            return answer
        head = request.messages_list[0].metadata
        with self._lock:
            parcel = self._parcels.get(head.reply_to_message_id)
            if parcel is not None and (parcel.node, parcel.run) == (request.node.node_id, head.run_id):
                parcel.announce(head.message_id, request.message_object_trees[0])
                answer.objects_to_push.extend(sorted(parcel.missing))
                answer.session_id = parcel.request
                self._tell(parcel)
        return answer

    def put(self, request: PushObjectRequest) -> bool:
        """A site's `push-object`, of the reply that its session names; False if it is not taken."""
        with self._lock:
            if self._parcel_for(request) is None:
                return False
        content = request.object_content  # each look at it makes another copy
        digest = hashlib.sha256(content).hexdigest()  # others need not wait for it
        with self._lock:
            if (parcel := self._parcel_for(request)) is None:
                return False
            taken = parcel.put(request.object_id, content, digest)
            self._tell(parcel)
            return taken

    def _parcel_for(self, request: PushObjectRequest) -> Parcel | None:
        parcel = self._parcels.get(request.session_id)
        return parcel if parcel is not None and parcel.node == request.node.node_id else None

    def _tell(self, parcel: Parcel) -> None:
        if parcel.done:
            self._came.notify_all()
