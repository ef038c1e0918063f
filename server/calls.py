"""What a site may call, and who answers: Flower's own handlers of its Fleet API, and ours for what a site
sends.

Flower puts a web framework around its handlers, whose layers take longer than what passes through them; here
there is nothing between the door and the handler. Uses Flower's internals (handlers, link state, errors):
held to one version by pyproject.toml and by tests/server/test_fleet.py.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    DeactivateNodeRequest,
    PullMessagesRequest,
    PullMessagesResponse,
    PushMessagesRequest,
    PushMessagesResponse,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedRequest,
    PullObjectRequest,
    PushObjectRequest,
    PushObjectResponse,
)
from flwr.server.superlink.linkstate import LinkState
from flwr.supercore.error import FlowerError
from flwr.supercore.error.catalog import API_ERROR_MAP
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE
from flwr.superlink.servicer.fleet import fleet_handlers
from google.protobuf.message import DecodeError
from google.protobuf.message import Message as ProtobufMessage
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from common import packets
from common.errors import WireError
from common.logs import Sparing
from common.protocol import FLEET
from server import delivery
from server.parcels import Parcels
from server.pieces import pull_object

refusals = Sparing(logging.getLogger("pneumofed.server"))

PUSH = "push-messages"
SMALL = 16 * 2**10
"""Bytes of a request that names things alone."""


class Fleet(Protocol):
    """What answers rest on."""

    state: LinkState
    parcels: Parcels

    def own_node(self, certificate_key: str, request: ProtobufMessage) -> bool: ...


Asked = Callable[[str, Fleet], ProtobufMessage | Response | None]
"""A request that was read: (key of the site's certificate, fleet) -> what is answered, or None where it is
about another site's node. Raises FlowerError, or whatever a site may make a handler raise."""


@dataclass(frozen=True)
class Call:
    """One of those that a site may make."""

    most_bytes: int  # of a request
    read: Callable[[bytes], Asked]
    """Raises DecodeError."""


R = TypeVar("R", bound=ProtobufMessage)


def _call(
    kind: type[R], handle: Callable[[R, Fleet], ProtobufMessage | Response], most_bytes: int = SMALL
) -> Call:
    def read(body: bytes) -> Asked:
        request = kind.FromString(body)
        return lambda key, fleet: handle(request, fleet) if fleet.own_node(key, request) else None

    return Call(most_bytes, read)


def _push(request: PushObjectRequest, fleet: Fleet) -> PushObjectResponse:
    return PushObjectResponse(stored=fleet.parcels.put(request))


CALLS = {
    "activate-node": _call(ActivateNodeRequest, lambda r, f: fleet_handlers.activate_node(r, f.state)),
    "deactivate-node": _call(DeactivateNodeRequest, lambda r, f: fleet_handlers.deactivate_node(r, f.state)),
    "send-node-heartbeat": _call(
        SendNodeHeartbeatRequest, lambda r, f: fleet_handlers.send_node_heartbeat(r, f.state)
    ),
    "pull-messages": _call(PullMessagesRequest, lambda r, f: delivery.pull_messages(r, f.state)),
    "pull-object": _call(PullObjectRequest, lambda r, f: pull_object(r, f.state)),
    "confirm-message-received": _call(
        ConfirmMessageReceivedRequest, lambda r, f: delivery.confirm(r, f.state)
    ),
    # What a site sends is ours to judge, not Flower's.
    PUSH: _call(
        PushMessagesRequest,
        lambda r, f: f.parcels.announce(r),
        2**20 + packets.MOST_BYTES,  # the names of the pieces of a model of 20 GB
    ),
    "push-object": _call(PushObjectRequest, _push, 8 * 2**20),  # Flower cuts arrays into pieces of 5 MiB
}


class Calls:
    """An ASGI application that answers what the door lets in (server/door.py): POST FLEET/call of `site`,
    whose body, whole in one part, is the call's request; or a packet with it, where the site says so."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name, packed = (
            scope["path"].removeprefix(f"{FLEET}/"),
            packets.HEADER.encode() in dict(scope["headers"]),
        )
        body = [(await receive()).get("body", b"")]
        try:
            response = await asyncio.to_thread(self._answer, name, scope["peer_key"], body, packed)
        except Exception as e:  # what a site may make Flower's handlers raise is not known
            refusals.warning(f"{name}: cannot be answered: {type(e).__name__}", about=scope["site"])
            response = _told("cannot be answered", 500)
        await response(scope, receive, send)

    def _answer(self, name: str, certificate_key: str, body: list[bytes], packed: bool) -> Response:
        """`body` is taken out of its list: it is let go when it was read, before what came in it is kept."""
        answer: ProtobufMessage | Response | None
        try:
            if packed and name == PUSH:
                answer = self._take_packet(certificate_key, body.pop())
            else:
                answer = CALLS[name].read(body.pop())(certificate_key, self._fleet)
        except (DecodeError, WireError):
            return _told("not a readable request", 400)
        except FlowerError as e:
            return _refused(e)
        if answer is None:
            return _told("not this site's node", 401)
        if isinstance(answer, Response):
            return answer
        if packed and isinstance(answer, PullMessagesResponse):
            packet = packets.pack(answer.SerializeToString(), self._objects(answer))
            return Response(packet, media_type=packets.MEDIA_TYPE)
        return Response(answer.SerializeToString(), media_type=PROTOBUF_MEDIA_TYPE)

    def _objects(self, answer: PullMessagesResponse) -> Iterator[bytes]:
        """Those of the message that are there already."""
        for tree in answer.message_object_trees:
            for branch in iterate_object_tree(tree):
                if content := self._fleet.state.object_store.get(branch.object_id):
                    yield content

    def _take_packet(self, certificate_key: str, body: bytes) -> ProtobufMessage | None:
        """A reply's announcement and its small objects. The answer names those that are still to come;
        without a session, nobody waits for the reply."""
        first, objects = packets.unpack(body)
        request = PushMessagesRequest.FromString(first)
        if not self._fleet.own_node(certificate_key, request):
            return None
        announced, left = self._fleet.parcels.announce(request), []
        if not announced.objects_to_push:
            return PushMessagesResponse()
        for name in announced.objects_to_push:
            one = PushObjectRequest(node=request.node, session_id=announced.session_id, object_id=name)
            one.object_content = objects.get(name, b"")
            if name not in objects or not self._fleet.parcels.put(one):
                left.append(name)
        return PushMessagesResponse(session_id=announced.session_id, objects_to_push=left)


def _told(detail: str, status: int) -> Response:
    return JSONResponse({"detail": detail}, status)


def _refused(error: FlowerError) -> Response:
    """With the number by which Flower's programs know the reason."""
    try:
        about = API_ERROR_MAP[error.code]
    except (ValueError, KeyError):
        return _told("cannot be answered", 500)
    return JSONResponse(error.to_json(about.public_message), about.http_status_code)
