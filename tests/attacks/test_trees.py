"""Kind 1: what an admitted site sends is judged before anything unfolds, and touches that site alone. Real
messages over TLS; each attack ends with the weights that the other sites give."""

import hashlib
import json
import re
import resource
import time

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.common.serde import message_to_proto
from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.proto.message_pb2 import ObjectTree, PushObjectRequest
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree

from common import wire
from common.models import build_model
from common.plan import Federation
from server.grid import FleetGrid
from server.observer import Silent
from server.roster import Deployment
from server.rounds import RoundLoop
from tests.helpers.deployment import wait_for
from tests.helpers.local_sites import SiteThread, honest, make_server, make_site, train_numbers, update_of
from tests.helpers.plans import small_plan

NAMES = ["alpha", "beta", "gamma"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    path = tmp_path_factory.mktemp("trees")
    folder, service = make_server(path)
    yield service, {name: make_site(path, name, folder) for name in NAMES}
    service.stop()


def name_of(text):
    return hashlib.sha256(text.encode()).hexdigest()


def announce(link, request, reply_id, tree):
    """As a site's link does, of whatever tree."""
    head = message_to_proto(remove_content_from_message(Message(RecordDict(), reply_to=request)))
    head.metadata.message_id = reply_id
    pushed = PushMessagesRequest(node=link._node, messages_list=[head], message_object_trees=[tree])
    return link._client.PushMessages(pushed)


def push(link, request, answer, contents):
    for object_id in answer.objects_to_push:
        link._client.PushObject(
            PushObjectRequest(
                node=link._node, run_id=request.metadata.run_id, session_id=answer.session_id,
                object_id=object_id, object_content=contents[object_id],
            )
        )  # fmt: skip


def doubling(link, request):
    """Thirty levels, each of which names the one before twice: drawn out, a thousand million nodes."""
    root = ObjectTree(object_id=name_of("root"))
    for level in range(1, 31):
        before = ObjectTree(object_id=name_of(f"level {level - 1}"))
        root.children.append(ObjectTree(object_id=name_of(f"level {level}"), children=[before, before]))
    announce(link, request, root.object_id, root)


def chain(link, request):
    tree = ObjectTree(object_id=name_of("0"))
    for level in range(1, 60):
        tree = ObjectTree(object_id=name_of(str(level)), children=[tree])
    announce(link, request, tree.object_id, tree)


def wide(link, request):
    tree = ObjectTree(object_id=name_of("root"), children=[ObjectTree() for _ in range(100_000)])
    announce(link, request, tree.object_id, tree)


def nameless(link, request):
    announce(link, request, "x" * 64, ObjectTree(object_id="x" * 64))


def never_comes(link, request):
    """Our own next messages' records, whose names a site can work out, with a child that never comes."""
    child = ObjectTree(object_id=name_of("never"))
    configs = [ConfigRecord({**request.content["config"], wire.ROUND: number}) for number in (1, 2, 3)]
    children = [ObjectTree(object_id=config.object_id, children=[child]) for config in configs]
    root = ObjectTree(object_id=name_of("root"), children=children)
    announce(link, request, root.object_id, root)


def as_reply(link, request, content):
    """Send an honest tree of a dishonest message."""
    reply = Message(content, reply_to=request)
    contents = {object_id: o.deflate() for object_id, o in get_all_nested_objects(reply).items()}
    push(link, request, announce(link, request, reply.object_id, get_object_tree(reply)), contents)


def too_large(link, request):
    arrays = wire.pack({"w": np.zeros(4_000_000, np.float32) + np.arange(4_000_000, dtype=np.float32)})
    as_reply(link, request, RecordDict({wire.ARRAYS: arrays, wire.METRICS: train_numbers()}))


def unfolds(link, request):
    """One piece of an array, named four hundred times."""
    array = Array("uint8", (2**19,), wire.PACKED, bytes(2**19))
    reply = Message(RecordDict({wire.ARRAYS: ArrayRecord({wire.PACKED: array})}), reply_to=request)
    contents = {object_id: o.deflate() for object_id, o in get_all_nested_objects(reply).items()}
    before = [(i, content) for i, content in contents.items() if content.startswith(b"Array ")]
    ((array_id, content),) = before
    head, body = content.split(b"\x00", 1)
    values = json.loads(body)
    values["arraychunk_ids"] = [0] * 400
    longer = json.dumps(values).encode()
    kind, children, _ = head.decode().split(" ")
    changed = f"{kind} {children} {len(longer)}".encode() + b"\x00" + longer
    swap(link, request, reply, contents, array_id, changed)


def swap(link, request, reply, contents, old_id, changed):
    """Send `reply` with one object changed, and with it the names of all that stand above it."""
    names = {old_id: hashlib.sha256(changed).hexdigest()}
    new = {names[old_id]: changed}
    for object_id, content in contents.items():
        if object_id == old_id:
            continue
        for before, after in names.items():
            content = content.replace(before.encode(), after.encode())
        names[object_id] = hashlib.sha256(content).hexdigest()
        new[names[object_id]] = content

    def renamed(tree):
        return ObjectTree(object_id=names[tree.object_id], children=[renamed(c) for c in tree.children])

    tree = renamed(get_object_tree(reply))
    push(link, request, announce(link, request, tree.object_id, tree), new)


def other_content(link, request):
    reply = Message(RecordDict({wire.METRICS: train_numbers()}), reply_to=request)
    answer = announce(link, request, reply.object_id, get_object_tree(reply))
    push(link, request, answer, dict.fromkeys(answer.objects_to_push, b"ConfigRecord  2\x00{}"))


def two_replies(link, request):
    for number in (1, 2):
        announce(link, request, name_of(str(number)), ObjectTree(object_id=name_of(str(number))))


def long_reason(link, request):
    as_reply_error = Message(Error(wire.SITE_FAILS, "\x1b[31m" + "x" * 600_000), reply_to=request)
    contents = {as_reply_error.object_id: as_reply_error.deflate()}
    tree = ObjectTree(object_id=as_reply_error.object_id)
    push(link, request, announce(link, request, tree.object_id, tree), contents)


ATTACKS = {
    doubling: "announces more than", chain: "announces more than",
    wide: "announces more than", nameless: "no SHA-256", never_comes: "deadline", too_large: "larger than the agreed",
    unfolds: "unfolds to more", other_content: "not what its name says", two_replies: "not the one that was announced",
    long_reason: "x{100}",
}  # fmt: skip


class Hostile(SiteThread):
    """Honest until it trains."""

    def __init__(self, folder, name, attack):
        self.attack = attack
        super().__init__(folder, name, self.choose)

    def choose(self, name, message):
        if message.metadata.message_type != "train":
            return honest(name, message)
        try:
            self.attack(self.link, message)
        except Exception as e:  # what the server answers is of no concern to who attacks
            self.problems.append(repr(e))
        return None


PLAN = small_plan(rounds=2, federation=Federation(quorum=0.6, deadline_s=4.0, max_update_norm=10.0))
START = wire.get_weights(build_model(PLAN))


def federate(place, folder, attack):
    grid = FleetGrid(place[0].state, place[0].parcels, place[0].bells)
    sites = [Hostile(place[1][n], n, attack) if n == "beta" else SiteThread(place[1][n], n) for n in NAMES]
    try:
        wait_for("the sites", lambda: len(list(grid.get_node_ids())) == len(NAMES))
        schema = wire.Schema({name: w.shape for name, w in START.items()})
        deployment = Deployment("run1", len(NAMES), 20.0, place[0].site_of)
        loop = RoundLoop(grid, PLAN, schema, folder, Silent(), deployment)
        return loop.run({name: w.copy() for name, w in START.items()})
    finally:
        grid.close()
        for site in sites:
            site.close()


@pytest.fixture(scope="module")
def without(place, tmp_path_factory):
    """The weights that alpha and gamma give when beta only says that it cannot."""
    return federate(place, tmp_path_factory.mktemp("without"), lambda link, m: link.send(refusal(m))).weights


def refusal(message):
    return Message(Error(wire.SITE_FAILS, "cannot"), reply_to=message)


@pytest.mark.slow
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda a: a.__name__)
def test_a_hostile_tree_costs_its_site_alone(place, without, tmp_path, attack):
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    checkpoint = federate(place, tmp_path, attack)
    assert [sorted(report.sites) for report in checkpoint.history] == [["alpha", "gamma"]] * 2
    for report in checkpoint.history:
        assert len(report.failed["beta"]) < 500
    assert re.search(ATTACKS[attack], checkpoint.history[0].failed["beta"]), checkpoint.history[0].failed
    assert all(np.array_equal(w, without[name]) for name, w in checkpoint.weights.items())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB
    assert time.process_time() - began < 20
    assert place[0].state.object_store.store == {}


@pytest.mark.slow
def test_updates_are_what_the_sites_sent(place, tmp_path):
    """The control: without an attack all three count."""
    send = lambda link, m: link.send(  # noqa: E731
        Message(
            RecordDict({wire.ARRAYS: wire.pack(update_of("beta", m)), wire.METRICS: train_numbers()}),
            reply_to=m,
        )
    )
    checkpoint = federate(place, tmp_path, send)
    assert [sorted(report.sites) for report in checkpoint.history] == [NAMES] * 2
