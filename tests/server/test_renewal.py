"""Certificates and the CA renewed under a server that serves: with sites that follow, and sites that do not."""

import json
import ssl

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from client.provision import take_in
from common.credentials import (
    client_tls,
    is_issued_by,
    make_key,
    read_certificate,
    read_certificates,
    read_key,
    write_certificates,
    write_key,
)
from common.errors import ConfigError, LinkError, WireError
from common.signature import Authority, sign_folder, verify_folder
from common.trust import Trust, sign_authorities
from server import renewal
from server.certificates import Authority as Issuer
from server.provision import admit, read_authority
from tests.helpers.local_sites import link_of, make_server, make_site


@pytest.fixture
def place(tmp_path):
    server, service = make_server(tmp_path)
    sites = {name: make_site(tmp_path, name, server) for name in ("north", "south")}
    service.follow_admissions()
    yield server, service, sites
    service.stop()


def follow(site):
    """As its agent does at every start and every hour."""
    link = link_of(site)
    changes = take_in(site, link.trust())
    link.use_tls(client_tls(site.ca, site.certificate, site.key))
    link.trust()
    link.close()
    return changes


def reaches(site):
    link = link_of(site)
    try:
        link.connect()
        return True
    except LinkError:
        return False
    finally:
        link.close()


def test_the_ca_is_rolled_over_under_sites_that_stay_connected(place):
    server, service, sites = place
    old = read_certificate(server.ca_certificate)
    standing = link_of(sites["north"])
    standing.connect()
    assert renewal.renew_ca(server, None) == ["north", "south"]
    service.follow_certificates()
    standing.connect()  # a session that stands goes on
    assert renewal.sites_behind(server) == ["north", "south"]
    with pytest.raises(ConfigError, match=r"north, south: not there yet"):
        renewal.renew_server(server, None)
    changes = follow(sites["north"])
    assert changes[0] == "the CA was renewed"
    assert "certificate was renewed" in changes[1]
    assert follow(sites["north"]) == []
    assert renewal.sites_behind(server) == ["south"]
    with pytest.raises(ConfigError, match="south: not there yet"):
        renewal.renew_server(server, None)
    with pytest.raises(ConfigError, match="renewed already, and south"):
        renewal.renew_ca(server, None)
    renewal.renew_server(server, None, without=frozenset({"south"}))
    service.follow_certificates()
    new = read_certificates(server.ca_certificate)[0]
    assert is_issued_by(read_certificate(server.certificate), [new])
    assert not is_issued_by(read_certificate(server.certificate), [old])
    assert reaches(sites["north"])
    assert not reaches(sites["south"])  # left behind by name, as was asked
    standing.connect()
    standing.close()


def test_a_site_that_was_admitted_under_the_new_ca_knows_it_alone(place, tmp_path):
    server, service, _ = place
    renewal.renew_ca(server, None)
    service.follow_certificates()
    late = make_site(tmp_path, "west", server)
    assert reaches(late)
    assert follow(late) == []


def test_the_server_s_certificate_is_taken_up_while_it_serves(place):
    server, service, sites = place
    before = read_certificate(server.certificate).serial_number
    renewal.renew_server(server, None)
    service.follow_certificates()
    tls = client_tls(sites["north"].ca, sites["north"].certificate, sites["north"].key)
    with httpx.Client(verify=tls, trust_env=False) as client:
        response = client.post(f"https://127.0.0.1:{server.settings().port}/", content=b"")
        der = response.extensions["network_stream"].get_extra_info("ssl_object").getpeercert(True)
    shown = ssl.DER_cert_to_PEM_cert(der)
    assert shown.strip() == server.certificate.read_text().strip()
    assert read_certificate(server.certificate).serial_number != before


def test_a_certificate_that_cannot_be_taken_up_leaves_the_one_before(place):
    server, service, sites = place
    server.certificate.write_text("rubbish")
    service.follow_certificates()
    assert reaches(sites["north"])


def test_the_ca_s_key_may_be_elsewhere(place, tmp_path):
    server, _, _ = place
    stick = tmp_path / "stick.key"
    server.ca_key.rename(stick)
    server.settings()  # as every command and `up` ask
    for act in (lambda key: renewal.renew_sites(server, key), lambda key: renewal.renew_server(server, key)):
        with pytest.raises(ConfigError, match="the CA's key is not here"):
            act(None)
        act(stick)
    write_key(tmp_path / "other.key", make_key())
    with pytest.raises(ConfigError, match="is not the key of"):
        read_authority(server, tmp_path / "other.key")
    request = make_site(tmp_path, "east", server, admitted=False).request
    with pytest.raises(ConfigError, match="the CA's key is not here"):
        admit(server, "east", request)
    assert admit(server, "east", request, stick).exists()


def test_a_revoked_signing_key_reaches_the_sites(place, tmp_path):
    server, _, sites = place
    model = tmp_path / "model"
    model.mkdir()
    (model / "card.json").write_text("{}")
    sign_folder(model, read_key(server.signing_key), read_certificate(server.signing))
    site = sites["north"]
    assert verify_folder(model, Authority.read(site.ca, site.revoked)) == "127.0.0.1"
    renewal.renew_signing(server, None, revoke=True)
    assert "certificates were revoked" in follow(site)
    with pytest.raises(ConfigError, match="was revoked"):
        verify_folder(model, Authority.read(site.ca, site.revoked))
    sign_folder(model, read_key(server.signing_key), read_certificate(server.signing))
    assert verify_folder(model, Authority.read(site.ca, site.revoked)) == "127.0.0.1"


def odd_trusts(server, site):
    """Trust that a server which was taken over might tell, each with what a site says to it."""
    stranger = Issuer.new("a CA of the thief's", make_key())
    text = stranger.certificate.public_bytes(Encoding.PEM).decode()
    ours = server.ca_certificate.read_text()
    other = stranger.issue_site("north", read_certificate(site.certificate).public_key())
    own = read_authority(server, None).issue_site("north", make_key().public_key())
    certificate = {"thief's": other, "another key's": own}
    path = site.path / "x.crt"
    for name, one in certificate.items():
        write_certificates(path, one)
        certificate[name] = path.read_text()
    return [
        Trust(text, sign_authorities(text, stranger.key)),
        Trust(text, "AAAA"),
        Trust(text, "not base64"),
        Trust(ours + text, sign_authorities(ours, read_authority(server, None).key)),
        Trust(certificate=certificate["thief's"]),
        Trust(certificate=certificate["another key's"]),
        Trust(certificate="rubbish"),
        Trust(revoked="rubbish"),
        Trust(revoked=stranger.revoke(7, None).public_bytes(Encoding.PEM).decode()),
    ]


def test_a_server_cannot_talk_a_site_into_another_ca(place):
    server, _, sites = place
    site = sites["north"]
    before = {p: p.read_bytes() for p in (site.ca, site.certificate)}
    for trust in odd_trusts(server, site):
        with pytest.raises(WireError):
            take_in(site, trust)
        assert {p: p.read_bytes() for p in before} == before
        assert not site.revoked.exists()


@pytest.mark.parametrize("tree", [None, [], {"authorities": 3}, {"more": ""}, {"revoked": "x" * 1_000_001}])
def test_trust_that_is_not_readable_is_refused(tree):
    with pytest.raises(WireError):
        Trust.parse(tree)


def test_who_is_behind_survives_a_note_that_is_not_readable(place):
    server, _, sites = place
    follow(sites["north"])
    server.shown.write_text("[")
    renewal.renew_ca(server, None)
    assert renewal.sites_behind(server) == ["north", "south"]
    assert json.loads(server.trust.read_text())["signature"]
