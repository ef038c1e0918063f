"""The calls themselves, without TLS and without the door: those are in test_fleet.py."""

import asyncio
import json
from types import SimpleNamespace

import pytest
from flwr.proto.fleet_pb2 import ActivateNodeRequest, PullMessagesRequest, PullMessagesResponse
from flwr.proto.node_pb2 import Node
from flwr.supercore.error import ApiErrorCode, FlowerError
from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE
from flwr.supercore.protobuf.translation import PROTOBUF_REQUEST_TYPES
from flwr.superlink.servicer.fleet import fleet_handlers

from server.calls import CALLS, PREFIX, Calls

PULL = PullMessagesRequest(node=Node(node_id=7)).SerializeToString()


def ask(name, body, own=True):
    """(status, content type, body) of an answer."""
    fleet = SimpleNamespace(
        state=SimpleNamespace(object_store=None), parcels=None, own_node=lambda key, request: own
    )
    sent = []

    async def receive():
        return {"type": "http.request", "body": body}

    async def send(message):
        sent.append(message)

    asyncio.run(Calls(fleet)({"type": "http", "path": f"{PREFIX}/{name}", "peer_key": "k"}, receive, send))
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
        kind = PROTOBUF_REQUEST_TYPES["POST", f"{PREFIX}/{name}"]
        seen = []
        fleet = SimpleNamespace(own_node=lambda key, request, seen=seen: bool(seen.append(request)))
        assert call.answer(kind().SerializeToString(), "k", fleet) is None
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
