"""Contract with the pinned Flower, and attacks on the one open port."""

import datetime
import inspect
import re
import socket
import ssl
import threading
import time
import typing
from base64 import b64encode
from collections.abc import Iterator
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from flwr.proto.fleet_pb2 import ActivateNodeRequest, PullMessagesRequest
from flwr.proto.node_pb2 import Node
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER, FLEET_HTTP_SIGNATURE_HEADER
from flwr.supercore.control.control_http_client import ControlHttpClient
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor
from starlette.responses import JSONResponse, Response

from client.link import FleetLink
from client.link_errors import NotLetInError, OverError, UnreadableError
from common import packets, wire
from common.credentials import client_tls, make_key, public_pem, read_key, write_key
from common.errors import LinkError
from common.objects import PIECE_BYTES
from common.protocol import WAIT_HEADER
from common.waiting import PATH as WAITING_PATH
from common.waiting import Waiting
from server.calls import CALLS
from server.door import MAX_BODY_BYTES, MOST_WAIT_S, PULL, _seconds
from server.grid import FleetGrid
from server.provision import revoke
from tests.helpers.deployment import wait_for
from tests.helpers.local_sites import SiteThread, link_of, make_server, make_site


@pytest.fixture(scope="module")
def federation(tmp_path_factory):
    path = tmp_path_factory.mktemp("fleet")
    folder, service = make_server(path)
    yield path, folder, service
    service.stop()


@pytest.fixture(scope="module")
def sites(federation):
    path, folder, _ = federation
    return {name: make_site(path, name, folder) for name in ("north", "south")}


def url(federation, path):
    return f"https://127.0.0.1:{federation[1].settings().port}{path}"


def post(federation, site, path, body=b"", **headers):
    """A request as the admitted site `site` may make it, with its certificate and node key."""
    tls = client_tls(site.ca, site.certificate, site.key)
    key = b64encode(public_pem(read_key(site.key))).decode()
    with httpx.Client(verify=tls, trust_env=False, timeout=10) as client:
        return client.post(
            url(federation, path), content=body,
            headers={FLEET_HTTP_PUBLIC_KEY_HEADER: key, "content-type": "application/x-protobuf", **headers},
        )  # fmt: skip


def calls_of(client_class, site, federation, node):
    """Flower's own client with every call it has: (name, what makes it with a well-formed request of the
    right type)."""
    key = read_key(site.key)
    client = client_class(url(federation, ""), interceptors=[NodeAuthHttpInterceptor(key, key.public_key())])
    client._client = httpx.Client(
        verify=client_tls(site.ca, site.certificate, site.key), trust_env=False, timeout=10
    )
    for name, method in inspect.getmembers(client, inspect.ismethod):
        if name[0].isupper():
            request = typing.get_type_hints(method)["request"]()
            if client_class is FleetHttpClient and hasattr(request, "node"):
                request.node.node_id = node
            elif client_class is FleetHttpClient and hasattr(request, "public_key"):
                request.public_key = public_pem(key)
            elif client_class is FleetHttpClient:
                request.node_id = node
            yield (
                name,
                lambda method=method, request=request: (
                    list(answer) if isinstance(answer := method(request), Iterator) else answer
                ),
            )


@pytest.mark.parametrize(
    ("client_class", "n_calls"),
    [(ControlHttpClient, 35), (RuntimeHttpClient, 15), (FleetHttpClient, 4)],
    ids=lambda c: str(c),
)
def test_flowers_control_and_runtime_services_and_registration_are_not_there(
    federation, sites, client_class, n_calls
):
    ours = {"".join(word.title() for word in path.split("-")) for path in CALLS}
    link = link_of(sites["north"])
    link.connect()
    absent = {
        name: call
        for name, call in calls_of(client_class, sites["north"], federation, link.node)
        if name not in ours
    }
    assert len(absent) >= n_calls
    if client_class is FleetHttpClient:
        assert absent.keys() == {"RegisterNode", "UnregisterNode", "GetRun", "GetFab"}
    for name, call in absent.items():
        with pytest.raises(httpx.HTTPStatusError) as refused:
            call()
        assert refused.value.response.status_code == 404, name
    for path in ("/docs", "/openapi.json", "/redoc", "/health", "/"):
        assert post(federation, sites["north"], path).status_code == 404, path
    link.close()


def test_an_admitted_site_gets_in_and_keeps_its_session(sites):
    link = link_of(sites["north"])
    link.connect()
    node = link.node
    assert link.receive(int) is None
    link.connect()
    assert link.node == node
    link.close()


def test_without_a_certificate_there_is_not_even_a_connection(federation, sites):
    context = ssl.create_default_context(cafile=sites["north"].ca)
    with pytest.raises(httpx.HTTPError, match=r"(?i)certificate.?required|EOF|disconnected|reset"):
        httpx.post(url(federation, "/v1/fleet/pull-messages"), content=b"", verify=context, trust_env=False)


def test_older_tls_is_refused(federation, sites):
    site = sites["north"]
    context = client_tls(site.ca, site.certificate, site.key)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        pytest.raises(ssl.SSLError),
        socket.create_connection(("127.0.0.1", federation[1].settings().port)) as raw,
    ):
        context.wrap_socket(raw, server_hostname="127.0.0.1")


def test_a_certificate_of_another_ca_is_refused(federation, sites, tmp_path):
    other_folder, other = make_server(tmp_path)
    other.stop()
    stranger = make_site(tmp_path, "north", other_folder)
    tls = client_tls(sites["north"].ca, stranger.certificate, stranger.key)
    link = FleetLink(
        f"127.0.0.1:{federation[1].settings().port}",
        tls,
        read_key(stranger.key),
        None,
        tmp_path / "node.json",
    )
    with pytest.raises(LinkError, match=r"does not accept our certificate|cannot be reached"):
        link.connect()


def test_an_unadmitted_key_is_refused(federation, sites, tmp_path, caplog):
    """The site's certificate, but a node key that nobody admitted."""
    write_key(tmp_path / "stranger.key", make_key())
    with pytest.raises(NotLetInError, match="does not admit"):
        link_of(sites["north"], key=tmp_path / "stranger.key").connect()
    assert "north: its node key is not its certificate's" in caplog.text


def test_a_certificate_of_one_site_with_the_key_of_another_is_refused(sites):
    with pytest.raises(NotLetInError, match="does not admit"):
        link_of(sites["north"], key=sites["south"].key).connect()


def test_a_revoked_site_is_out_at_once_with_its_connection_open(federation, tmp_path):
    path, folder, _ = federation
    site = make_site(path, "east", folder)
    link = link_of(site)
    link.connect()
    assert link.receive(int) is None
    revoke(folder, "east")
    with pytest.raises(NotLetInError, match="revoked"):
        link.receive(int)
    with pytest.raises(NotLetInError):
        link.connect()


def test_a_file_of_sites_that_is_broken_for_a_moment_takes_no_admission_back(place, caplog):
    """As if the disk were full, or somebody edited it: nobody is let in meanwhile, and the run goes on after."""
    folder, service, sites = place
    link = link_of(sites["north"])
    link.connect()
    before = folder.sites.read_bytes()
    folder.sites.write_bytes(b"[")
    service.follow_admissions()
    with pytest.raises(NotLetInError):
        link.receive(int)
    assert service.site_of(link.node) == "north"
    assert "nobody is let in" in caplog.text
    folder.sites.write_bytes(before)
    service.follow_admissions()
    link.connect()
    assert link.receive(int) is None


def test_a_key_that_was_revoked_and_is_put_back_ends_no_server(place, caplog):
    """As by a restored file: Flower takes no node's key twice."""
    folder, service, sites = place
    before = folder.sites.read_bytes()
    revoke(folder, "north")
    service.follow_admissions()
    folder.sites.write_bytes(before)
    service.follow_admissions()
    assert "north: its key was revoked while this server ran: start the server again" in caplog.text
    link_of(sites["south"]).connect()


def test_a_site_that_is_revoked_in_a_run_costs_its_reply_only(federation):
    path, folder, service = federation
    names = ["west", "middle"]
    threads = [SiteThread(make_site(path, name, folder), name, lambda n, m: None) for name in names]
    grid = FleetGrid(service.state, service.parcels, service.bells)
    try:
        wait_for("both", lambda: len(grid.get_node_ids()) == 2)
        nodes = {service.site_of(n): n for n in grid.get_node_ids()}
        config = RecordDict({"config": ConfigRecord({"a": 1})})
        ids = grid.push_messages([Message(config, nodes[name], "query") for name in names])
        wait_for("both to have it", lambda: all(t.seen for t in threads))
        revoke(folder, "west")
        service.follow_admissions()
        (reply,) = wait_for("the error", lambda: grid.pull_messages(ids))
        assert reply.error.reason == "the site went away"
        assert reply.metadata.reply_to_message_id == ids[0]
        assert [service.site_of(n) for n in grid.get_node_ids()] == ["middle"]
        assert "" in grid.push_messages([Message(config, nodes["west"], "query")])
    finally:
        grid.close()
        for thread in threads:
            thread.close()


def test_a_request_too_large_is_refused_unread(federation, sites):
    assert (
        post(
            federation,
            sites["north"],
            "/v1/fleet/push-object",
            b"x" * (MAX_BODY_BYTES["/v1/fleet/push-object"] + 1),
        ).status_code
        == 413
    )
    assert (
        post(federation, sites["north"], "/v1/fleet/push-object", iter([b"x"])).status_code == 413
    )  # of unstated length


def test_a_clock_an_hour_off_costs_nothing_and_is_named(federation, sites, monkeypatch, caplog):
    """Flower's own node authentication would turn the site away."""
    hour = datetime.timedelta(hours=1)
    monkeypatch.setattr("client.link.now", lambda: datetime.datetime.now(datetime.UTC) - hour)

    class Behind:  # the site's clock alone: the server, in this process too, has the right time
        def __getattr__(self, name):
            return getattr(time, name)

        def time(self):
            return time.time() - 3600

    monkeypatch.setattr("client.skew.time", Behind())
    link = link_of(sites["south"])
    link.connect()
    assert link.receive(int) is None
    link.trust()
    assert re.search(r"clock is 3[56]\d\d s behind", caplog.text)
    link.close()


def test_a_second_agent_with_the_same_key_is_told_to_wait(sites):
    first, second = link_of(sites["south"]), link_of(sites["south"])
    first.connect()
    sites["south"].node.unlink()  # on another machine: it knows nothing of the first
    with pytest.raises(LinkError, match="within a minute"):
        second.connect()
    first.close()
    second.connect()
    second.close()


def test_a_restarted_agent_need_not_wait_for_its_predecessor(sites):
    first = link_of(sites["south"])
    first.connect()
    first._ended.set()  # killed: no goodbye
    second = link_of(sites["south"])
    second.connect()
    second.close()


def test_rubbish_is_answered_not_crashed_on(federation, sites):
    for body in (b"", b"\xff" * 50, ActivateNodeRequest(public_key=b"x").SerializeToString()):
        for path in CALLS:
            assert 400 <= post(federation, sites["north"], f"/v1/fleet/{path}", body).status_code <= 501
    link = link_of(sites["north"])
    link.connect()
    link.close()


def test_a_site_is_told_of_the_queue_that_is_for_it(federation, sites, monkeypatch):
    queue = {name: [Waiting(f"run{name}", "0" * 64, "{}")] for name in sites}
    monkeypatch.setattr(federation[2], "waiting", queue.get)
    for name, site in sites.items():
        link = link_of(site)
        assert link.waiting() == queue[name]
        monkeypatch.setattr("client.link.WAITING_PATH", "/v1/of/a/server/of/before")
        assert link.waiting() == []
        monkeypatch.undo()
        monkeypatch.setattr(federation[2], "waiting", queue.get)
        link.close()
    assert post(federation, sites["north"], WAITING_PATH, b"x").status_code == 413


def test_a_site_that_waits_hears_of_a_message_at_once(federation, sites):
    service, link = federation[2], link_of(sites["north"])
    link.connect()
    grid = FleetGrid(service.state, service.parcels, service.bells)
    message = Message(RecordDict({"config": ConfigRecord({"n": 7})}), link.node, "query", ttl=60.0)
    threading.Timer(0.3, grid.push_messages, ([message],)).start()
    received = link.receive(lambda: 1000, wait_s=10)  # it would say None
    assert received is not None
    assert received.content["config"]["n"] == 7
    assert link.receive(lambda: 1000, wait_s=1) is None
    grid.close()
    link.close()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("", 0), ("2", 2), ("99999", MOST_WAIT_S), ("1e9", 0), ("-1", 0), ("nan", 0), ("9" * 5000, 0), ("²", 0)],
)
def test_a_site_may_wait_for_so_long(text, seconds):
    assert _seconds(text) == seconds


def test_a_message_is_not_given_to_a_site_that_went_away_while_it_waited(federation, sites):
    service, site = federation[2], sites["north"]
    link = link_of(site)
    link.connect()
    grid = FleetGrid(service.state, service.parcels, service.bells)
    body = PullMessagesRequest(node=Node(node_id=link.node)).SerializeToString()
    key = b64encode(public_pem(read_key(site.key))).decode()
    headers = {FLEET_HTTP_PUBLIC_KEY_HEADER: key, "content-type": "application/x-protobuf", WAIT_HEADER: "10"}
    tls = client_tls(site.ca, site.certificate, site.key)
    with httpx.Client(verify=tls, trust_env=False, timeout=0.5) as client, pytest.raises(httpx.ReadTimeout):
        client.post(url(federation, PULL), content=body, headers=headers)
    wait_for("nobody to wait", lambda: not service.bells._waiting, 5)
    grid.push_messages(
        [Message(RecordDict({"config": ConfigRecord({"n": 7})}), link.node, "query", ttl=60.0)]
    )
    received = link.receive(lambda: 1000)
    assert received is not None
    assert received.content["config"]["n"] == 7
    grid.close()
    link.close()


def test_a_site_that_is_revoked_while_it_waits_gets_nothing(tmp_path):
    folder, service = make_server(tmp_path)
    try:
        link = link_of(make_site(tmp_path, "north", folder))
        link.connect()
        threading.Timer(0.3, revoke, (folder, "north")).start()
        with pytest.raises(LinkError):
            link.receive(int, wait_s=1)
    finally:
        service.stop()


@pytest.mark.parametrize("known", [True, False], ids=["packets", "a server of before"])
@pytest.mark.parametrize("n_numbers", [10, 3_000_000])
def test_an_exchange_is_the_same_in_packets_and_object_by_object(
    federation, sites, monkeypatch, known, n_numbers
):
    if not known:
        monkeypatch.setattr("server.calls.packets", SimpleNamespace(HEADER="of-the-next-version"))
    service, link = federation[2], link_of(sites["north"])
    link.connect()
    grid = FleetGrid(service.state, service.parcels, service.bells)
    weights = {"w": np.arange(n_numbers, dtype=np.float32)}
    config = ConfigRecord({"n": 7, wire.TENSOR_BYTES: wire.Schema.of_weights(weights).packed_bytes})
    asked = RecordDict({"arrays": wire.pack(weights), "config": config})
    sent = asked["arrays"][wire.PACKED].data
    ids = grid.push_messages([Message(asked, link.node, "train", ttl=60.0)])
    requests = []
    send = link._client._client.send
    monkeypatch.setattr(
        link._client._client, "send", lambda r, **more: requests.append(r.url.path) or send(r, **more)
    )
    received = link.receive(lambda: 20_000_000)
    assert received.content["config"]["n"] == 7
    assert received.content["arrays"][wire.PACKED].data == sent
    answer = RecordDict({"arrays": wire.pack({"w": -weights["w"]}), "metrics": MetricRecord({"loss": 0.5})})
    link.send(Message(answer, reply_to=received))
    (reply,) = grid.pull_messages(ids)
    assert reply.content["metrics"]["loss"] == 0.5
    assert reply.content["arrays"][wire.PACKED].data == answer["arrays"][wire.PACKED].data
    pieces = 2 * -(-len(answer["arrays"][wire.PACKED].data) // PIECE_BYTES) if n_numbers > 10 else 0
    assert len(requests) == (3 + pieces if known else 15 if n_numbers == 10 else 19)
    with pytest.raises(OverError):
        link.send(Message(answer, reply_to=received))
    grid.close()
    link.close()


def test_a_server_that_was_put_back_to_an_older_version_is_signed_for_again(federation, sites, monkeypatch):
    """It turns away who does not sign the time of day, and knows of no packets."""
    link, seen = link_of(sites["north"]), []

    def of_before(self, name, key, body, packed):
        return JSONResponse({}, 401)

    link.connect()
    assert link.receive(int) is None  # now it knows that the server takes packets
    inner = link._client._client._transport.handle_request
    monkeypatch.setattr(
        link._client._client._transport, "handle_request", lambda r: seen.append(r.headers) or inner(r)
    )
    link.receive(int)
    monkeypatch.setattr("server.calls.Calls._answer", of_before)
    for _ in range(2):
        with pytest.raises(NotLetInError):
            link.receive(int)
    assert [FLEET_HTTP_SIGNATURE_HEADER in headers for headers in seen] == [False, False, True]
    monkeypatch.undo()
    link.close()


@pytest.mark.parametrize("body", [b"", b"\xff" * 50, b"\0\0\0\3abc", packets.pack(b"\xff" * 9, [b"x"] * 60)])
def test_a_packet_of_rubbish_from_a_server_is_one_refusal(federation, sites, monkeypatch, body):
    link = link_of(sites["north"])
    link.connect()
    answer = Response(body, media_type=packets.MEDIA_TYPE)
    monkeypatch.setattr("server.calls.Calls._answer", lambda *_: answer)
    with pytest.raises(LinkError) as refused:
        link.receive(int)
    assert isinstance(refused.value, UnreadableError)
    monkeypatch.undo()
    assert link.receive(int) is None
    link.close()
