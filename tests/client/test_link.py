"""What a site's IT is told when the server cannot be reached. The protocol itself:
tests/server/test_fleet.py, test_grid.py."""

from importlib.metadata import version
from types import SimpleNamespace

import pytest

from client import link as module
from common.errors import LinkError
from common.protocol import PROTOCOL, PROTOCOL_HEADER, VERSION_HEADER, objection, version_of
from server import door
from tests.helpers.deployment import free_port
from tests.helpers.local_sites import link_of, make_server, make_site


def test_flower_is_the_version_that_the_link_was_made_for():
    assert version("flwr").startswith("1.41.")


@pytest.fixture
def site(tmp_path):
    folder, service = make_server(tmp_path)
    service.stop()
    return make_site(tmp_path, "north", folder)


@pytest.mark.parametrize(
    ("server", "proxy", "said"),
    [
        ("127.0.0.1:{port}", None, "refuses connections; is the server running"),
        ("no-such-host.invalid:443", None, "its name cannot be resolved"),
        ("127.0.0.1:{port}", "http://127.0.0.1:{port}", "refuse|proxy"),
    ],
)
def test_each_way_of_failing_says_what_to_do(site, server, proxy, said, tmp_path):
    from client.link import FleetLink
    from common.credentials import client_tls, read_key

    port = free_port()
    tls = client_tls(site.ca, site.certificate, site.key)
    link = FleetLink(
        server.format(port=port),
        tls,
        read_key(site.key),
        proxy and proxy.format(port=port),
        tmp_path / "node.json",
    )
    with pytest.raises(LinkError, match=said):
        link.connect()


def test_a_server_under_another_name_is_not_ours(site, tmp_path):
    from server.settings import ServerFolder

    service = make_server(tmp_path / "other")[1]
    try:
        other = ServerFolder(tmp_path / "other" / "server").settings().port
        site.settings_file.write_text(f"server: 127.0.0.1:{other}\n")
        with pytest.raises(LinkError, match="its certificate is not from our CA"):
            link_of(site).connect()
    finally:
        service.stop()


@pytest.mark.parametrize(
    ("theirs", "said"),
    [({}, None), (PROTOCOL + 1, None), (PROTOCOL + 2, "the server must upgrade")],
    ids=["of before", "next", "too new"],
)
def test_a_site_of_another_version_is_let_in_or_told_who_must_upgrade(tmp_path, monkeypatch, theirs, said):
    folder, service = make_server(tmp_path)
    try:
        headers = (
            theirs if isinstance(theirs, dict) else {PROTOCOL_HEADER: str(theirs), VERSION_HEADER: "9.0"}
        )
        monkeypatch.setattr(module, "protocol", SimpleNamespace(headers=lambda: headers, objection=objection))
        link = link_of(make_site(tmp_path, "north", folder))
        if said is None:
            link.connect()
            link.trust()
            link.close()
        else:
            with pytest.raises(LinkError, match=rf"north runs pneumofed 9.0 \(protocol 4\).*{said}"):
                link.connect()
    finally:
        service.stop()


@pytest.mark.slow
def test_a_server_that_is_too_new_is_named_by_the_site(tmp_path, monkeypatch):
    folder, service = make_server(tmp_path)
    try:
        new = SimpleNamespace(
            objection=lambda *_: None,
            version_of=version_of,
            headers=lambda: {PROTOCOL_HEADER: "7", VERSION_HEADER: "9.0"},
        )
        monkeypatch.setattr(door, "protocol", new)
        link = link_of(make_site(tmp_path, "north", folder))
        with pytest.raises(
            LinkError,
            match=r"the server runs pneumofed 9.0 \(protocol 7\), this site.*this site must upgrade",
        ):
            link.trust()
    finally:
        service.stop()
