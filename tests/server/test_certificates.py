"""What the CA issues, read by OpenSSL as well."""

import subprocess

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from common.credentials import days_left, is_issued_by, make_key, purposes_of, write_certificates
from server.certificates import CERTIFICATE_DAYS, Authority
from tests.helpers.tools import require_tool


@pytest.fixture(scope="module")
def ca():
    return Authority.new("pneumofed CA", make_key())


@pytest.mark.parametrize(
    ("issue", "purpose", "openssl"),
    [("issue_server", "serverAuth", "sslserver"), ("issue_site", "clientAuth", "sslclient")],
)
def test_openssl_takes_a_certificate_for_its_one_purpose(ca, tmp_path, issue, purpose, openssl):
    require_tool("openssl")
    certificate = getattr(ca, issue)("fed.example.org", make_key().public_key())
    assert [p._name for p in purposes_of(certificate)] == [purpose]
    assert CERTIFICATE_DAYS - 1 < days_left(certificate) <= CERTIFICATE_DAYS
    write_certificates(tmp_path / "ca.crt", ca.certificate)
    write_certificates(tmp_path / "one.crt", certificate)
    for wanted, code in ((openssl, 0), ("sslclient" if openssl == "sslserver" else "sslserver", 2)):
        command = [
            "openssl",
            "verify",
            "-purpose",
            wanted,
            "-CAfile",
            tmp_path / "ca.crt",
            tmp_path / "one.crt",
        ]
        assert subprocess.run(command, capture_output=True).returncode == code


def test_a_ca_of_the_same_name_is_another_one(ca):
    other = Authority.new("pneumofed CA", make_key())
    certificate = ca.issue_site("st-mary", make_key().public_key())
    assert is_issued_by(certificate, [other.certificate, ca.certificate])
    assert not is_issued_by(certificate, [other.certificate])
    assert not is_issued_by(other.certificate, [ca.certificate])


def test_openssl_reads_the_list_of_revoked_ones(ca, tmp_path):
    require_tool("openssl")
    certificate = ca.issue_signer("fed", make_key().public_key())
    (tmp_path / "ca.crl").write_bytes(ca.revoke(certificate.serial_number, None).public_bytes(Encoding.PEM))
    write_certificates(tmp_path / "ca.crt", ca.certificate)
    command = [
        "openssl",
        "crl",
        "-in",
        tmp_path / "ca.crl",
        "-CAfile",
        tmp_path / "ca.crt",
        "-noout",
        "-text",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "verify OK" in done.stdout + done.stderr
    assert f"{certificate.serial_number:X}" in done.stdout.replace(":", "")
