import base64
import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from client.provision import take_in
from common.credentials import (
    make_key,
    read_certificate,
    write_certificates,
)
from common.errors import WireError
from common.trust import Trust, sign_authorities
from server.certificates import Authority as Issuer
from server.provision import read_authority


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
        *(Trust(certificate=text) for text in foreign_certificates(site)),
    ]


def foreign_certificates(site):
    """Of keys of other kinds, which anybody can make, and of a point that is none."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "north")])
    now, later = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=d) for d in (0, 1))
    builder = x509.CertificateBuilder(name, name, None, 1, now, later)
    for key, digest in (
        (rsa.generate_private_key(65537, 2048), hashes.SHA256()),
        (ed25519.Ed25519PrivateKey.generate(), None),
    ):
        made = builder.public_key(key.public_key()).sign(key, digest)
        yield made.public_bytes(Encoding.PEM).decode()
    certificate = read_certificate(site.certificate)
    point = certificate.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    broken = certificate.public_bytes(Encoding.DER).replace(point, point[:1] + b"\1" * (len(point) - 1))
    yield f"-----BEGIN CERTIFICATE-----\n{base64.encodebytes(broken).decode()}-----END CERTIFICATE-----\n"


def test_a_server_cannot_talk_a_site_into_another_ca(place):
    server, _, sites = place
    site = sites["north"]
    before = {p: p.read_bytes() for p in (site.ca, site.certificate)}
    for trust in odd_trusts(server, site):
        with pytest.raises(WireError):
            take_in(site, trust)
        assert {p: p.read_bytes() for p in before} == before
        assert not site.revoked.exists()
