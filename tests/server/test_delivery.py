"""A request comes to its site whatever becomes of a connection; and no site lets go of what others wait for."""

import time

import httpx
import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest

from common import wire
from common.errors import LinkError
from server.grid import FleetGrid
from tests.helpers.local_sites import link_of

WEIGHTS = {"w": np.arange(4_000_000, dtype=np.float32)}  # several pieces


def content():
    return RecordDict(
        {wire.ARRAYS: wire.pack(WEIGHTS), wire.CONFIG: ConfigRecord({"n": 7, wire.TENSOR_BYTES: 2**24})}
    )


@pytest.fixture
def federation(place):
    """A grid, the store, and two sites that are connected."""
    _, service, sites = place
    links = {name: link_of(site) for name, site in sites.items()}
    for link in links.values():
        link.connect()
    grid = FleetGrid(service.state, service.parcels, service.bells)
    yield grid, service.state.object_store, links
    grid.close()
    for link in links.values():
        link.close()


def breaks_once(monkeypatch, owner, name, *, after):
    """The connection breaks at the first call of `name`: before the server got it, or when the answer is under way."""
    call, broken = getattr(owner, name), []

    def once(*args):
        if broken:
            return call(*args)
        broken.append(name)
        if after:
            call(*args)
        raise httpx.ReadError("gone")

    monkeypatch.setattr(owner, name, once)


@pytest.mark.parametrize("after", [False, True], ids=["before the server got it", "before the answer came"])
@pytest.mark.parametrize("where", ["the request", "an object", "the confirmation"])
def test_a_broken_connection_costs_no_request(federation, monkeypatch, where, after):
    grid, store, links = federation
    link = links["north"]
    owner, name = {
        "the request": (link, "_pull"),
        "an object": (link._client, "PullObject"),
        "the confirmation": (link._client, "ConfirmMessageReceived"),
    }[where]
    breaks_once(monkeypatch, owner, name, after=after)
    (request,) = grid.push_messages([Message(content(), link.node, "train")])
    with pytest.raises(LinkError):
        link.receive(lambda: 2**28)
    message = link.receive(lambda: 2**28)
    np.testing.assert_array_equal(
        wire.Schema.of_weights(WEIGHTS).unpack(wire.get_arrays(message.content))["w"], WEIGHTS["w"]
    )
    assert message.metadata.message_id == request
    assert request not in store
    assert link.receive(lambda: 2**28) is None  # once


def test_what_came_before_the_connection_broke_is_not_asked_for_again(federation, monkeypatch):
    grid, _, links = federation
    link, asked, pull = links["north"], [], links["north"]._client.PullObject

    def breaks_at_the_third(request):
        asked.append(request.object_id)
        if len(asked) == 3:
            time.sleep(0.3)  # those beside it have come
            raise httpx.ReadError("gone")
        return pull(request)

    monkeypatch.setattr(link._client, "PullObject", breaks_at_the_third)
    grid.push_messages([Message(content(), link.node, "train")])
    with pytest.raises(LinkError):
        link.receive(lambda: 2**28)
    assert link.receive(lambda: 2**28) is not None
    assert len(asked) == len(set(asked)) + 1


def test_a_new_session_begins_with_nothing(federation, monkeypatch):
    grid, _, links = federation
    link = links["north"]
    breaks_once(monkeypatch, link._client, "PullObject", after=False)
    grid.push_messages([Message(content(), link.node, "train")])
    with pytest.raises(LinkError):
        link.receive(lambda: 2**28)
    link._node = None
    link.connect()
    assert link._begun is None


def test_no_site_lets_go_of_what_another_waits_for(federation):
    """Its message, or any piece of a model whose name the site knows; nor of its own before it has come."""
    grid, store, links = federation
    north, south = links["north"], links["south"]
    (request,) = grid.push_messages([Message(content(), south.node, "train")])
    before = set(store.store)
    for name in before:
        north._client.ConfirmMessageReceived(
            ConfirmMessageReceivedRequest(node=north._node, run_id=grid.run.run_id, message_object_id=name)
        )
    for name in before - {request}:
        south._client.ConfirmMessageReceived(
            ConfirmMessageReceivedRequest(node=south._node, run_id=grid.run.run_id, message_object_id=name)
        )
    assert set(store.store) == before
    assert south.receive(lambda: 2**28) is not None
