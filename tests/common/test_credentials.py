"""Keys and certificates: only the owner's, only of the agreed kind, and refused in one line that holds no secret."""

import datetime
import os
import ssl

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from common.credentials import (
    client_tls,
    common_name,
    days_left,
    is_issued_by,
    make_key,
    parse_certificates,
    public_pem,
    read_certificate,
    read_certificates,
    read_key,
    read_request,
    sha256_fingerprint,
    write_certificates,
    write_key,
)
from common.errors import ConfigError, WireError
from server.certificates import Authority
from tests.helpers.denied import deny_reading


def pem_of(key):
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def private(path, data):
    path.write_bytes(data)
    path.chmod(0o600)
    return path


@pytest.fixture
def authority():
    return Authority.new("a CA", make_key())


def test_a_key_comes_back_and_is_never_readable_by_others_nor_overwritten(tmp_path):
    key, path = make_key(), tmp_path / "k"
    before = os.umask(0)
    try:
        write_key(path, key)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    assert public_pem(read_key(path)) == public_pem(key)
    with pytest.raises(FileExistsError):
        write_key(path, make_key())
    assert public_pem(read_key(path)) == public_pem(key)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o620])
def test_a_key_that_others_can_touch_is_refused(tmp_path, mode):
    write_key(tmp_path / "k", make_key())
    (tmp_path / "k").chmod(mode)
    with pytest.raises(ConfigError, match=f"its mode is {mode:o}, others could read it; run: chmod 600"):
        read_key(tmp_path / "k")


def test_other_keys_are_refused_and_never_quoted(tmp_path):
    other = pem_of(ec.generate_private_key(ec.SECP256R1()))
    large = pem_of(rsa.generate_private_key(65537, 2048))
    for name, data, said in (
        ("curve", other, "expected one on the curve P-384"),
        ("rsa", large, "expected one on the curve P-384"),
        ("rubbish", b"secret secret", "not a readable private key"),
        ("torn", pem_of(make_key())[:-60], "not a readable private key"),
    ):
        with pytest.raises(ConfigError, match=said) as e:
            read_key(private(tmp_path / name, data))
        assert "secret" not in str(e.value)
    with pytest.raises(ConfigError, match="expected the file that init made"):
        read_key(tmp_path / "absent")


@given(st.binary(max_size=200))
def test_no_bytes_are_a_certificate_or_a_request_by_accident(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("x") / "f"
    path.write_bytes(data)
    for read in (read_certificate, read_certificates, read_request):
        with pytest.raises(ConfigError):
            read(path)


def test_certificates_are_written_one_after_another_and_read_back(tmp_path, authority):
    other = Authority.new("another CA", make_key())
    write_certificates(tmp_path / "c", authority.certificate, other.certificate)
    assert read_certificate(tmp_path / "c") == authority.certificate
    both = read_certificates(tmp_path / "c")
    assert both == [authority.certificate, other.certificate]
    assert parse_certificates((tmp_path / "c").read_text()) == both
    with pytest.raises(WireError):
        parse_certificates("rubbish")


def test_a_certificate_says_who_it_is_for_how_long_and_by_whom(authority):
    site = authority.issue_site("st-mary", make_key().public_key())
    assert common_name(site) == "st-mary"
    left = (site.not_valid_after_utc - datetime.datetime.now(datetime.UTC)).total_seconds() / 86400
    assert days_left(site) == pytest.approx(left, abs=0.01)
    other = Authority.new("a CA", make_key())  # of the same name
    assert is_issued_by(site, [other.certificate, authority.certificate])
    assert not is_issued_by(site, [other.certificate])
    text = sha256_fingerprint(site)
    assert len(text.split(":")) == 32
    assert text == text.upper()


def test_tls_is_1_3_trusts_one_ca_and_wants_a_key_that_fits(tmp_path, authority):
    key = make_key()
    write_key(tmp_path / "k", key)
    write_key(tmp_path / "other", make_key())
    write_certificates(tmp_path / "ca", authority.certificate)
    write_certificates(tmp_path / "c", authority.issue_site("a", key.public_key()))
    context = client_tls(tmp_path / "ca", tmp_path / "c", tmp_path / "k")
    assert context.minimum_version == ssl.TLSVersion.TLSv1_3
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    assert len(context.get_ca_certs()) == 1
    with pytest.raises(ConfigError, match="does not belong to the key"):
        client_tls(tmp_path / "ca", tmp_path / "c", tmp_path / "other")


def test_what_another_account_owns_is_not_said_to_be_broken(tmp_path, authority, monkeypatch):
    """Whoever is told to make a whole key anew has it admitted anew for nothing."""
    write_key(tmp_path / "k", make_key())
    write_certificates(tmp_path / "c", authority.certificate)
    said = "cannot be read: Permission denied; run this as the account that the service runs as"
    deny_reading(monkeypatch, tmp_path / "k")
    deny_reading(monkeypatch, tmp_path / "c")
    for name, read in (
        ("k", read_key),
        ("c", read_certificate),
        ("c", read_certificates),
        ("c", read_request),
    ):
        with pytest.raises(ConfigError, match=f"{name}: {said}"):
            read(tmp_path / name)
    with pytest.raises(ConfigError, match="k: cannot be read"):
        client_tls(tmp_path / "c", tmp_path / "c", tmp_path / "k")
