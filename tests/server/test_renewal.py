"""Certificates and the CA renewed under a server that serves: with sites that follow, and sites that do not."""

import json
import ssl

import httpx
import pytest

from common.credentials import (
    client_tls,
    is_issued_by,
    read_certificate,
    read_certificates,
    read_key,
)
from common.errors import ConfigError
from common.signature import Authority, sign_folder, verify_folder
from server import renewal
from server.check import _check_served
from server.rollover import renew_ca
from tests.helpers.local_sites import follow, link_of, make_site, reaches


@pytest.mark.slow
def test_the_ca_is_rolled_over_under_sites_that_stay_connected(place):
    server, service, sites = place
    old = read_certificate(server.ca_certificate)
    standing = link_of(sites["north"])
    standing.connect()
    assert renew_ca(server, None) == ["north", "south"]
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
        renew_ca(server, None)
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
    renew_ca(server, None)
    service.follow_certificates()
    late = make_site(tmp_path, "west", server)
    assert reaches(late)
    assert follow(late) == []


def test_a_second_ca_waits_for_the_server_s_own_certificate(place):
    """Sites that trust the new two would not know the certificate that it shows, and never come back."""
    server, service, sites = place
    renew_ca(server, None)
    service.follow_certificates()
    for site in sites.values():
        follow(site)
    with pytest.raises(ConfigError, match="renew server, first"):
        renew_ca(server, None)
    assert all(map(reaches, sites.values()))
    renewal.renew_server(server, None)
    renew_ca(server, None)


def test_the_server_s_certificate_is_taken_up_while_it_serves(place):
    server, service, sites = place
    before = read_certificate(server.certificate).serial_number
    renewal.renew_server(server, None)
    service.follow_certificates()
    tls = client_tls(sites["north"].ca, sites["north"].certificate, sites["north"].key)
    url = f"https://127.0.0.1:{server.settings().port}/"
    with httpx.Client(verify=tls, trust_env=False) as client, client.stream("POST", url) as response:
        der = response.extensions["network_stream"].get_extra_info("ssl_object").getpeercert(True)
    shown = ssl.DER_cert_to_PEM_cert(der)
    assert shown.strip() == server.certificate.read_text().strip()
    assert read_certificate(server.certificate).serial_number != before


def test_a_certificate_that_cannot_be_taken_up_leaves_the_one_before(place):
    server, service, sites = place
    server.certificate.write_text("rubbish")
    service.follow_certificates()
    assert reaches(sites["north"])


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


def test_who_is_behind_survives_a_note_that_is_not_readable(place):
    server, _, sites = place
    follow(sites["north"])
    server.shown.write_text("[")
    renew_ca(server, None)
    assert renewal.sites_behind(server) == ["north", "south"]
    assert json.loads(server.trust.read_text())["signature"]


def test_the_check_says_when_a_renewed_certificate_is_shown(place):
    server, service, _ = place
    served = lambda: [f.text for f in _check_served(server, server.settings())]  # noqa: E731
    assert served() == []
    renewal.renew_server(server, None)
    assert served() == ["shows the certificate of before; it takes up the new one in seconds"]
    service.follow_certificates()
    assert served() == []
    service.stop()
    (text,) = served()
    assert "nobody shows a certificate there" in text
