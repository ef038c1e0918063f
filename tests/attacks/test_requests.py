"""Kind 1, the other way round: what a hostile server sends costs a site one refusal and a line in its audit
log."""

import hashlib

import httpx
import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.common.serde import message_to_proto
from flwr.proto.fleet_pb2 import PullMessagesResponse
from flwr.proto.message_pb2 import ConfirmMessageReceivedResponse, ObjectTree, PullObjectResponse
from flwr.proto.node_pb2 import Node
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.task_identity import TaskIdentity

from client.agent import Agent
from client.link_errors import UnreadableError
from common import packets
from common.audit import read_entries
from common.monitoring import Monitoring
from tests.helpers.local_sites import link_of, make_server, make_site


def name_of(text):
    return hashlib.sha256(text.encode()).hexdigest()


class HostileClient:
    """Flower's client, as a hostile server would answer it."""

    def __init__(self, head, tree, contents, packed=False):
        trees = [] if tree is None else [tree]
        self._pulled, self._contents = (
            [PullMessagesResponse(messages_list=head, message_object_trees=trees)],
            contents,
        )
        self._packed, self._client = packed, self

    def post(self, url, content, headers):
        pulled = (self._pulled.pop() if self._pulled else PullMessagesResponse()).SerializeToString()
        if not self._packed:
            return httpx.Response(200, content=pulled, request=httpx.Request("POST", url))
        objects = [content for content in self._contents.values() if isinstance(content, bytes)]
        kind = {"content-type": packets.MEDIA_TYPE}
        packet = packets.pack(pulled, objects)
        return httpx.Response(200, content=packet, headers=kind, request=httpx.Request("POST", url))

    def PullObject(self, request):
        content = self._contents.get(request.object_id)
        if isinstance(content, Exception):
            raise content
        return PullObjectResponse(
            object_found=content is not None, object_available=True, object_content=content or b""
        )

    def ConfirmMessageReceived(self, request):
        return ConfirmMessageReceivedResponse()


def honest_request():
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
    message = Message(RecordDict({"config": ConfigRecord({"a": 1})}), 1, "query")
    message.metadata.__dict__["_message_id"] = message.object_id
    return message


def parts(message):
    head = message_to_proto(remove_content_from_message(message))
    contents = {object_id: o.deflate() for object_id, o in get_all_nested_objects(message).items()}
    return [head], get_object_tree(message), contents


def no_tree():
    head, _, contents = parts(honest_request())
    return head, None, contents


def doubling():
    head, _, contents = parts(honest_request())
    root = ObjectTree(object_id=name_of("root"))
    for level in range(1, 31):
        before = ObjectTree(object_id=name_of(f"level {level - 1}"))
        root.children.append(ObjectTree(object_id=name_of(f"level {level}"), children=[before, before]))
    return head, root, contents


def oversized():
    head, tree, contents = parts(honest_request())
    return head, tree, {object_id: content + bytes(2**21) for object_id, content in contents.items()}


def undecodable():
    head, tree, contents = parts(honest_request())
    return head, tree, dict.fromkeys(contents, b"\xff\x00" * 20)


def nested():
    head, tree, contents = parts(honest_request())
    deep = b"[" * 100_000
    return head, tree, dict.fromkeys(contents, b"Array  %d\x00" % len(deep) + deep)


def raising(error):
    def attack():
        head, tree, contents = parts(honest_request())
        return head, tree, dict.fromkeys(contents, error)

    return attack


ATTACKS = {
    "no tree": no_tree, "doubling": doubling, "oversized": oversized, "undecodable": undecodable, "nested": nested,
    "MemoryError": raising(MemoryError()), "RecursionError": raising(RecursionError()),
}  # fmt: skip


@pytest.fixture
def site(tmp_path):
    folder, service = make_server(tmp_path)
    service.stop()
    return make_site(tmp_path, "north", folder)


@pytest.mark.parametrize("packed", [False, True], ids=["object by object", "in a packet"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_it_is_refused_and_written_down_and_the_agent_goes_on(site, attack, packed, monkeypatch):
    link = link_of(site)
    link._node = Node(node_id=1)
    link._client = HostileClient(*ATTACKS[attack](), packed)
    agent = Agent(site, link, Monitoring("test", None, None))
    sent = []
    monkeypatch.setattr(link, "send", sent.append)
    with pytest.raises(UnreadableError) as unread:
        link.receive(int)
    agent._refuse_unread(unread.value)
    (reply,) = sent
    assert reply.error.reason.startswith("a request could not be read: ")
    assert [e.event for e in read_entries(site.audit)] == ["refused"]
    assert link.receive(int) is None


def test_what_nobody_can_be_answered_for_is_written_down(site, monkeypatch):
    agent = Agent(site, link_of(site), Monitoring("test", None, None))
    agent._refuse_unread(UnreadableError("DecodeError", None))
    assert [(e.event, e.facts["why"]) for e in read_entries(site.audit)] == [
        ("unreadable", "a request could not be read: DecodeError")
    ]


@pytest.mark.parametrize("packed", [False, True], ids=["object by object", "in a packet"])
def test_an_honest_request_is_read(site, packed):
    message = honest_request()
    link = link_of(site)
    link._node = Node(node_id=1)
    link._client = HostileClient(*parts(message), packed)
    assert link.receive(int).content == message.content


def test_a_server_that_only_sends_what_is_refused_is_asked_ever_less(site):
    agent = Agent(site, link_of(site), Monitoring("test", None, None))
    pauses = []
    for agent._refused in range(0, 30, 3):
        pauses.append(agent._pause())
    assert pauses[0] == pauses[1] == 0
    assert pauses == sorted(pauses)
    assert pauses[-1] == 10.0
