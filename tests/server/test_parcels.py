"""Replies are taken whole, once, from the site that was asked, and no larger than agreed."""

import hashlib
import threading
import time

import pytest
from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.proto.message_pb2 import Metadata, ObjectTree, PushObjectRequest
from flwr.proto.node_pb2 import Node

from common.errors import WireError
from common.objects import SPARE_BYTES
from server.parcels import Parcels


def name(content):
    return hashlib.sha256(content).hexdigest()


PARTS = [b"one", b"two"]
ROOT = ObjectTree(object_id=name(b"root"), children=[ObjectTree(object_id=name(part)) for part in PARTS])


def announce(parcels, *, request="r", node=1, run=9, tree=ROOT, reply=None):
    head = Metadata(run_id=run, message_id=reply or tree.object_id, reply_to_message_id=request)
    return parcels.announce(
        PushMessagesRequest(
            node=Node(node_id=node), messages_list=[ProtoMessage(metadata=head)], message_object_trees=[tree]
        )
    )


def put(parcels, content, *, session="r", node=1, object_id=None):
    return parcels.put(
        PushObjectRequest(
            node=Node(node_id=node), session_id=session, object_id=object_id or name(content),
            object_content=content,
        )
    )  # fmt: skip


@pytest.fixture
def parcels():
    parcels = Parcels()
    parcels.expect("r", 1, 9, 100)
    return parcels


def test_a_reply_is_done_when_all_of_it_is_there(parcels):
    assert sorted(announce(parcels).objects_to_push) == sorted(map(name, [b"root", *PARTS]))
    for content in (*PARTS, b"root"):
        assert parcels.take(["r"]) is None
        assert put(parcels, content)
    parcel = parcels.take(["r"])
    assert set(parcel.contents.values()) == {b"root", *PARTS}
    assert parcels.take(["r"]) is None


def test_what_was_sent_before_the_connection_broke_is_not_sent_again(parcels):
    announce(parcels)
    assert put(parcels, b"one")
    assert sorted(announce(parcels).objects_to_push) == sorted([name(b"root"), name(b"two")])
    assert put(parcels, b"one")  # its answer was lost


@pytest.mark.parametrize("wrong", [{"request": "other"}, {"node": 2}, {"run": 8}])
def test_who_was_not_asked_is_not_waited_for(parcels, wrong):
    assert list(announce(parcels, **wrong).objects_to_push) == []
    announce(parcels)
    assert not put(parcels, b"one", node=2)
    assert not put(parcels, b"one", session="other")
    assert put(parcels, b"one")


def test_before_it_is_announced_nothing_is_taken(parcels):
    assert not put(parcels, b"one")


def test_after_it_is_forgotten_nothing_is_taken(parcels):
    announce(parcels)
    parcels.forget(["r"])
    assert not put(parcels, b"one")
    assert list(announce(parcels).objects_to_push) == []


@pytest.mark.parametrize(
    ("attack", "said"),
    [
        (lambda p: put(p, b"three", object_id=name(b"one")), "not what its name says"),
        (lambda p: announce(p, tree=ObjectTree(object_id=name(b"other"))), "not the one that was announced"),
        (lambda p: announce(p, reply=name(b"other")), "not the one that was announced"),
    ],
)
def test_a_lie_ends_the_parcel_and_lets_go_of_it(parcels, attack, said):
    announce(parcels)
    put(parcels, b"two")
    attack(parcels)
    assert not put(parcels, b"one")
    parcel = parcels.take(["r"])
    assert not parcel.contents
    with pytest.raises(WireError, match=said):
        parcel.open()


def test_more_bytes_than_agreed_are_not_kept(parcels):
    large = [bytes([i]) * (SPARE_BYTES // 4) for i in range(5)]
    tree = ObjectTree(object_id=name(large[0]), children=[ObjectTree(object_id=name(c)) for c in large[1:]])
    announce(parcels, tree=tree)
    assert [put(parcels, content) for content in large] == [True] * 4 + [False]
    with pytest.raises(WireError, match="larger than the agreed 100 bytes"):
        parcels.take(["r"]).open()


def test_an_announcement_of_several_messages_or_none_is_passed_over(parcels):
    for n_messages, n_trees in ((0, 0), (1, 0), (0, 1), (2, 2)):
        request = PushMessagesRequest(
            node=Node(node_id=1), messages_list=[ProtoMessage()] * n_messages,
            message_object_trees=[ROOT] * n_trees,
        )  # fmt: skip
        assert list(parcels.announce(request).objects_to_push) == []


def test_what_the_server_cannot_keep_costs_its_site_alone(parcels, monkeypatch):
    def full(self, key, content):
        raise OSError(28, "No space left on device")

    announce(parcels)
    monkeypatch.setattr("server.spool.Spool.__setitem__", full)
    assert not put(parcels, b"one")
    with pytest.raises(WireError, match="the server cannot keep it: No space left on device"):
        parcels.take(["r"]).open()


def test_who_waits_for_a_reply_hears_of_its_last_piece_and_of_no_other(parcels):
    """A piece that is not the last wakes nobody up; a reply to somebody else's request does not either."""
    parcels.expect("other", 1, 9, 100)
    announce(parcels)
    heard = threading.Event()
    waiter = threading.Thread(target=lambda: (parcels.wait(["r"], 60.0), heard.set()), daemon=True)
    waiter.start()
    put(parcels, b"one")
    announce(parcels, request="other", node=2)  # not its own: nothing becomes of it
    announce(parcels, request="other", tree=ObjectTree(object_id="no hash"))  # refused: done
    assert not heard.wait(0.2)
    for content in (b"two", b"root"):
        put(parcels, content)
    assert heard.wait(30)
    parcels.wait(["r", "other"], 60.0)  # at once
    began = time.monotonic()
    parcels.wait(["nobody's"], 0.05)
    assert time.monotonic() - began >= 0.05
