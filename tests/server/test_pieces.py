"""What a site gets is what Flower's own handler would send, to the last byte, however large it is."""

import asyncio

import pytest
from flwr.common.constant import Status
from flwr.proto.message_pb2 import PullObjectRequest, PullObjectResponse
from flwr.supercore.error import FlowerError
from flwr.superlink.servicer.fleet import fleet_handlers
from hypothesis import given
from hypothesis import strategies as st

from server.pieces import PIECE, pull_object


class State:
    """A run, and one object in the store."""

    def __init__(self, content, status=Status.RUNNING):
        self.content, self.status = content, status

    def get_run_status(self, runs):
        about = type("About", (), {"status": self.status, "sub_status": ""})
        return dict.fromkeys(runs, about)

    def get_object(self, run, name):
        return self.content

    def store_traffic(self, *_, **__):
        pass

    def cleanup_run(self, run):
        pass


def sent(state):
    """The messages of the answer."""
    messages = []

    async def send(message):
        messages.append(message)

    response = pull_object(PullObjectRequest(run_id=1, object_id="a"), state)
    asyncio.run(response({"type": "http"}, None, send))
    return messages


SIZES = [1, 127, 128, 16_383, 16_384, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE, 5 * 2**20 + 7, 2**21 - 1]


@pytest.mark.parametrize(
    "content", [None, b"", *(bytes([n % 251]) * n for n in SIZES)], ids=lambda c: len(c or b"")
)
def test_it_is_flower_s_answer(content):
    start, *rest = sent(State(content))
    body = b"".join(message["body"] for message in rest)
    theirs = fleet_handlers.pull_object(PullObjectRequest(run_id=1, object_id="a"), State(content))
    assert body == theirs.SerializeToString()
    assert dict(start["headers"])[b"content-length"] == str(len(body)).encode()
    assert [message["more_body"] for message in rest] == [True] * (len(rest) - 1) + [False]
    assert max(len(message["body"]) for message in rest) <= PIECE
    assert (
        len(rest) == 1 or rest[-1]["body"]
    )  # else a site would have all of it before the answer is complete


@given(st.binary(max_size=40_000))
def test_every_content_is_read_back(content):
    told = PullObjectResponse.FromString(b"".join(m["body"] for m in sent(State(content))[1:]))
    assert (told.object_found, told.object_available, told.object_content) == (True, bool(content), content)


@pytest.mark.parametrize("status", [Status.PENDING, Status.STARTING, Status.FINISHED])
def test_of_a_run_that_is_not_going_on_nothing_is_sent(status):
    with pytest.raises(FlowerError):
        sent(State(b"weights", status))
