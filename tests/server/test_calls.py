"""The calls themselves, without TLS and without the door: those are in test_fleet.py."""

import asyncio
import hashlib
import json
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    PullMessagesRequest,
    PullMessagesResponse,
    PushMessagesRequest,
    PushMessagesResponse,
)
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.proto.message_pb2 import Metadata, ObjectTree, PushObjectRequest
from flwr.proto.node_pb2 import Node
from flwr.supercore.error import ApiErrorCode, FlowerError
from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE
from flwr.supercore.protobuf.translation import PROTOBUF_REQUEST_TYPES
from flwr.superlink.servicer.fleet import fleet_handlers

from common import packets
from common.protocol import FLEET
from server.calls import CALLS, Calls
from server.parcels import Parcels

PULL = PullMessagesRequest(node=Node(node_id=7)).SerializeToString()


def ask(name, body, own=True, *, packed=False, store=None, parcels=None):
    """(status, content type, body) of an answer."""
    state = SimpleNamespace(object_store=store, lock=nullcontext(), message_ins_store={})
    fleet = SimpleNamespace(state=state, parcels=parcels, own_node=lambda key, request: own)
    sent = []

    async def receive():
        return {"type": "http.request", "body": body}

    async def send(message):
        sent.append(message)

    headers = [(packets.HEADER.encode(), b"1")] if packed else []
    scope = {"type": "http", "path": f"{FLEET}/{name}", "peer_key": "k", "site": "north", "headers": headers}
    asyncio.run(Calls(fleet)(scope, receive, send))
    start, *parts = sent
    return (
        start["status"],
        dict(start["headers"])[b"content-type"].decode(),
        b"".join(p["body"] for p in parts),
    )


@pytest.mark.parametrize("name", CALLS)
def test_rubbish_and_another_s_node_reach_no_handler(name):
    status, _, told = ask(name, b"\xff" * 50)
    assert (status, json.loads(told)) == (400, {"detail": "not a readable request"})
    status, _, told = ask(name, b"", own=False)
    assert (status, json.loads(told)) == (401, {"detail": "not this site's node"})


def test_an_answer_is_the_handler_s_and_flower_s_programs_read_it(monkeypatch):
    answer = PullMessagesResponse(message_object_trees=[])
    monkeypatch.setattr(fleet_handlers, "pull_messages", lambda request, state, store: answer)
    assert ask("pull-messages", PULL) == (200, PROTOBUF_MEDIA_TYPE, answer.SerializeToString())


def test_each_call_takes_what_flower_s_program_sends(monkeypatch):
    """Of the same type as in Flower's own table: a request of it is read as what it is."""
    for name, call in CALLS.items():
        kind = PROTOBUF_REQUEST_TYPES["POST", f"{FLEET}/{name}"]
        seen = []
        fleet = SimpleNamespace(own_node=lambda key, request, seen=seen: bool(seen.append(request)))
        assert call.read(kind().SerializeToString())("k", fleet) is None
        assert [type(request) for request in seen] == [kind]


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (FlowerError(ApiErrorCode.FEDERATION_NOT_FOUND_OR_NO_PERMISSION, "inner"), 404, "not found"),
        (RuntimeError("patient 4711"), 500, "cannot be answered"),
    ],
)
def test_what_a_handler_raises_is_an_answer_without_its_text(monkeypatch, caplog, error, status, told):
    def raising(*_):
        raise error

    monkeypatch.setattr(fleet_handlers, "activate_node", raising)
    found, kind, body = ask("activate-node", ActivateNodeRequest(public_key=b"k").SerializeToString())
    assert (found, kind) == (status, "application/json")
    assert told in body.decode()
    assert "4711" not in body.decode() + caplog.text
    assert "inner" not in body.decode()


def name(content):
    return hashlib.sha256(content).hexdigest()


def test_a_message_brings_those_of_its_objects_that_are_there_and_small(monkeypatch):
    large = bytes(packets.SMALL_BYTES + 1)
    store = {name(b"root"): b"root", name(b"leaf"): b"leaf", name(large): large, name(b"late"): b""}
    tree = ObjectTree(object_id=name(b"root"), children=[ObjectTree(object_id=key) for key in [*store][1:]])
    answer = PullMessagesResponse(message_object_trees=[tree])
    monkeypatch.setattr(fleet_handlers, "pull_messages", lambda request, state, store: answer)
    status, kind, body = ask("pull-messages", PULL, packed=True, store=store)
    assert (status, kind) == (200, packets.MEDIA_TYPE)
    assert packets.unpack(body) == (
        answer.SerializeToString(), {name(b"root"): b"root", name(b"leaf"): b"leaf"},
    )  # fmt: skip


LARGE = b"large" * packets.SMALL_BYTES
ANNOUNCED = PushMessagesRequest(
    node=Node(node_id=7),
    messages_list=[
        ProtoMessage(metadata=Metadata(run_id=9, message_id=name(b"root"), reply_to_message_id="r"))
    ],
    message_object_trees=[ObjectTree(object_id=name(b"root"), children=[ObjectTree(object_id=name(LARGE))])],
).SerializeToString()


def test_a_reply_s_small_objects_come_with_it_and_the_others_are_asked_for():
    parcels = Parcels()
    parcels.expect("r", 7, 9, len(LARGE))
    packet = packets.pack(ANNOUNCED, [b"root", b"of another tree"])
    status, _, body = ask("push-messages", packet, packed=True, parcels=parcels)
    answer = PushMessagesResponse.FromString(body)
    assert (status, answer.session_id, answer.objects_to_push) == (200, "r", [name(LARGE)])
    _, _, body = ask("push-messages", packet, packed=True, parcels=parcels)  # once more: the answer was lost
    assert PushMessagesResponse.FromString(body) == answer
    put = PushObjectRequest(
        node=Node(node_id=7), session_id="r", object_id=name(LARGE), object_content=LARGE
    ).SerializeToString()
    assert ask("push-object", put, parcels=parcels)[0] == 200
    assert set(parcels.take(["r"]).contents.values()) == {b"root", LARGE}
    _, _, body = ask("push-messages", packet, packed=True, parcels=parcels)
    assert PushMessagesResponse.FromString(body) == PushMessagesResponse()  # nobody waits for it any more


@pytest.mark.parametrize(
    "packet", [b"", b"\xff" * 50, ANNOUNCED, packets.pack(b"\xff" * 50, [b"root"])], ids=range(4)
)
def test_a_packet_of_rubbish_is_refused_and_leaves_nothing(packet):
    parcels = Parcels()
    parcels.expect("r", 7, 9, 100)
    status, _, body = ask("push-messages", packet, packed=True, parcels=parcels)
    assert (status, json.loads(body)) == (400, {"detail": "not a readable request"})
    assert (
        ask("push-messages", packets.pack(ANNOUNCED, []), own=False, packed=True, parcels=parcels)[0] == 401
    )
    assert parcels.take(["r"]) is None
    assert not parcels._parcels["r"].reply
