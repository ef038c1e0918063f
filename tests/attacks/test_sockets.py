"""Kind 7: silent and slow connections, by strangers and by an admitted site, keep nobody out."""

import socket
import time
from base64 import b64encode
from contextlib import ExitStack, suppress

import pytest
from flwr.proto.message_pb2 import PullObjectRequest

from common.credentials import client_tls, public_pem, read_key
from server import door, porch
from server.calls import Calls
from server.pieces import Pieces
from server.provision import revoke
from tests.helpers.deployment import wait_for
from tests.helpers.local_sites import link_of, make_server, make_site


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    path = tmp_path_factory.mktemp("sockets")
    folder, service = make_server(path)
    yield folder, service, {name: make_site(path, name, folder) for name in ("north", "south", "east")}
    service.stop()


def connect(place):
    return socket.create_connection(("127.0.0.1", place[0].settings().port), timeout=5)


def connect_as(place, name):
    site = place[2][name]
    tls = client_tls(site.ca, site.certificate, site.key)
    return tls.wrap_socket(connect(place), server_hostname="127.0.0.1")


def head_of(place, name, call):
    """The head of a site's request whose body of 900 bytes is still to come."""
    key = b64encode(public_pem(read_key(place[2][name].key))).decode()
    return (
        f"POST /v1/fleet/{call} HTTP/1.1\r\nhost: x\r\n{door.FLEET_HTTP_PUBLIC_KEY_HEADER}: {key}\r\n"
        "content-length: 900\r\ncontent-type: application/x-protobuf\r\n\r\n"
    ).encode()


def ended(connection):
    """Whether the other side has closed it; waits at most the connection's timeout."""
    try:
        while connection.recv(4096):
            pass
        return True
    except TimeoutError:
        return False
    except OSError:
        return True


def gets_in(place, name="south"):
    link = link_of(place[2][name])
    began = time.monotonic()
    link.connect()
    assert link.receive(int) is None
    link.close()
    return time.monotonic() - began


def test_hundreds_of_silent_connections_keep_nobody_out(place, monkeypatch):
    monkeypatch.setattr(porch, "YOUNG_S", 0.5)
    with ExitStack() as stack:
        silent = [stack.enter_context(connect(place)) for _ in range(4 * porch.PER_ADDRESS)]
        time.sleep(porch.YOUNG_S)  # until then who was first keeps its place
        assert gets_in(place) < 5  # not HANDSHAKE_S: others make room at once
        door_of = place[1]._door
        assert len(door_of.porch._strangers) <= porch.PER_ADDRESS
        silent[0].settimeout(5)
        assert ended(silent[0])  # the oldest went first


def test_a_silent_connection_ends(place, monkeypatch):
    monkeypatch.setattr(porch, "HANDSHAKE_S", 0.3)
    with connect(place) as silent:
        assert ended(silent)


@pytest.mark.parametrize("sent", [b"", b"P", b"POST /v1/fleet/pull-messages HTTP/1.1\r\nhost: x\r\nx: "])
def test_a_slow_head_ends(place, monkeypatch, sent):
    monkeypatch.setattr(door, "HEAD_S", 0.3)
    with connect_as(place, "north") as slow:
        slow.sendall(sent)
        assert ended(slow)


def test_an_endless_head_ends(place):
    with connect_as(place, "north") as endless:
        endless.sendall(b"POST /v1/fleet/pull-messages HTTP/1.1\r\nx: ")
        with suppress(OSError):
            for _ in range(1000):
                endless.sendall(b"x" * 65536)
            pytest.fail("64 MB of a head were taken")
        assert ended(endless)


def test_a_slow_body_is_given_up(place, monkeypatch):
    monkeypatch.setattr(door, "BODY_S", 0.3)
    with connect_as(place, "north") as slow:
        slow.sendall(head_of(place, "north", "pull-messages") + b"ten bytes!")
        assert slow.recv(12) == b"HTTP/1.1 408"
        assert ended(slow)


@pytest.mark.slow
def test_one_certificate_has_so_many_connections(place):
    with ExitStack() as stack:
        many = [stack.enter_context(connect_as(place, "north")) for _ in range(door.CONNECTIONS + 5)]
        for connection in many:
            connection.settimeout(0.2)
        assert sum(ended(connection) for connection in many) == 5
        assert gets_in(place) < 5
    wait_for("the door to count them out", lambda: not place[1]._door.connections, 5)


def test_the_body_of_one_site_waits_while_those_of_others_go_on(place, monkeypatch):
    """One that fills all its places with bodies that do not come holds up itself alone."""
    monkeypatch.setattr(door, "BODY_S", 3.0)
    head = head_of(place, "north", "push-object")
    with ExitStack() as stack:
        for _ in range(door.AT_ONCE + 2):
            stack.enter_context(connect_as(place, "north")).sendall(head)
        assert gets_in(place) < 2.5


def test_answers_that_are_not_taken_give_their_places_back(place, monkeypatch, caplog):
    """As of a site whose network broke while it received a model: it comes back before TCP notices."""
    monkeypatch.setattr(door, "BODY_S", 0.5)
    our_door = place[1]._door
    monkeypatch.setattr(our_door, "_app", Pieces(b"", bytes(64 * 2**20)))
    with ExitStack() as stack:
        for _ in range(door.AT_ONCE):
            stack.enter_context(connect_as(place, "north")).sendall(
                head_of(place, "north", "pull-messages") + bytes(900)
            )
        wait_for("its places to be taken", lambda: our_door._places["north"].locked(), 5)
        monkeypatch.setattr(our_door, "_app", Calls(place[1]))
        assert gets_in(place, "north") < 5
    assert "did not take its answer" in caplog.text
    assert "Traceback" not in caplog.text


def test_requests_in_a_row_without_waiting_end_the_connection_and_keep_no_place(place, caplog):
    """uvicorn would tell the last of them alone that the connection is gone."""
    pull = head_of(place, "north", "pull-messages").replace(b"content-length: 900", b"content-length: 0")
    waits = pull.replace(b"host: x", b"host: x\r\n" + door.WAIT_HEADER.encode() + b": 10")
    with ExitStack() as stack:
        for _ in range(2 * door.AT_ONCE):
            connection = stack.enter_context(connect_as(place, "north"))
            connection.sendall(4 * waits)
            assert ended(connection)
    assert gets_in(place, "north") < 5
    assert "Exception" not in caplog.text


def test_a_question_takes_a_place_too(place, monkeypatch):
    """One site's questions about the queue, however many, are answered four at a time: others come between."""
    at_once, most = [], []

    def waiting(site):
        at_once.append(site)
        most.append(at_once.count("north"))
        time.sleep(0.1)
        at_once.remove(site)
        return []

    monkeypatch.setattr(place[1], "waiting", waiting)
    asked = head_of(place, "north", "x").replace(b"/v1/fleet/x", door.WAITING_PATH.encode())
    with ExitStack() as stack:
        for _ in range(20):
            connection = stack.enter_context(connect_as(place, "north"))
            connection.sendall(asked.replace(b"content-length: 900", b"content-length: 0"))
        wait_for("all questions", lambda: len(most) == 20, 10)
    assert max(most) <= door.AT_ONCE


def flood_of(place, call, n=40, **headers):
    """The same request again and again, each with another of `headers` ({n} in it)."""
    body = UNKNOWN if call.endswith("pull-object") else b""
    for k in range(n):
        more = "".join(
            f"{name.replace('_', '-')}: {value.format(n=k)}\r\n" for name, value in headers.items()
        )
        head = head_of(place, "north", "x").replace(b"/v1/fleet/x", call.encode())
        head = head.replace(b"content-length: 900", f"{more}content-length: {len(body)}".encode())
        with connect_as(place, "north") as connection:
            connection.sendall(head + body)
            connection.recv(12)


UNKNOWN = PullObjectRequest(run_id=4711, object_id="0" * 64).SerializeToString()
FLOODS = {
    "objects of a run that is not": ("/v1/fleet/pull-object", {}),
    "another protocol each time": (door.TRUST_PATH, {"pneumofed_protocol": "9{n}"}),
    "another version each time": (door.TRUST_PATH, {"pneumofed_version": "1.{n}", "pneumofed_protocol": "2"}),
    "another transport": (door.TRUST_PATH, {"upgrade": "websocket", "connection": "upgrade"}),
}


@pytest.mark.parametrize(("call", "headers"), FLOODS.values(), ids=FLOODS)
def test_a_flood_fills_no_log(place, caplog, monkeypatch, call, headers):
    caplog.set_level("INFO", logger="pneumofed")
    if call.endswith("pull-object"):
        monkeypatch.setattr(place[1], "own_node", lambda key, request: True)
    flood_of(place, call, **headers)
    said = [record.getMessage() for record in caplog.records if record.levelname != "DEBUG"]
    assert len(said) <= 2, said


def test_a_revoked_key_fills_no_log(place, caplog):
    revoke(place[0], "east")
    for _ in range(20):
        with connect_as(place, "east") as gone:
            gone.sendall(b"POST /v1/fleet/pull-messages HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")
            assert gone.recv(12) == b"HTTP/1.1 401"
            assert ended(gone)
    assert caplog.text.count("no admitted site's") == 1


def test_rubbish_instead_of_a_handshake_ends(place):
    for rubbish in (b"GET / HTTP/1.1\r\n\r\n", bytes(500), b"\x16\x03\x01\xff\xff" + bytes(9000)):
        with connect(place) as stranger:
            stranger.sendall(rubbish)
            assert ended(stranger)
    assert gets_in(place) < 5
