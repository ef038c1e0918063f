"""A signature over a folder: only the federation's signing certificate counts, and every file does."""

import base64
import datetime
import json

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from common.credentials import make_key, write_certificates
from common.errors import ConfigError
from common.plan import canonical_json
from common.signature import (
    SIGNATURE,
    Authority,
    hashes_of,
    read_revocations,
    sign_folder,
    verify_folder,
)
from server import certificates

CA = certificates.Authority.new("a CA", make_key())
KEY = make_key()


@pytest.fixture
def authority(tmp_path):
    write_certificates(tmp_path / "ca.crt", CA.certificate)
    return Authority.read(tmp_path / "ca.crt", tmp_path / "ca.crl")


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for name, text in (("card.json", "{}"), ("card.html", "<p>"), ("model.onnx", "\0\1")):
        (folder / name).write_text(text)
    return folder


def test_a_whole_folder_names_who_signed(folder, authority):
    sign_folder(folder, KEY, CA.issue_signer("fed.example.org", KEY.public_key()))
    assert verify_folder(folder, authority) == "fed.example.org"
    assert json.loads((folder / SIGNATURE).read_text())["files"] == hashes_of(folder)


@pytest.mark.parametrize("issue", ["issue_site", "issue_server"])
def test_a_hospital_s_or_the_server_s_own_certificate_signs_nothing(folder, authority, issue):
    sign_folder(folder, KEY, getattr(CA, issue)("fed.example.org", KEY.public_key()))
    with pytest.raises(ConfigError, match="not for signing models"):
        verify_folder(folder, authority)


def test_the_ca_s_own_certificate_and_one_for_everything_sign_nothing(folder, authority):
    sign_folder(folder, CA.key, CA.certificate)
    with pytest.raises(ConfigError, match="not for signing models"):
        verify_folder(folder, authority)
    usages = [certificates.DOCUMENT_SIGNING, x509.ExtendedKeyUsageOID.CLIENT_AUTH]
    sign_folder(folder, KEY, issued(usages))
    with pytest.raises(ConfigError, match="not for signing models"):
        verify_folder(folder, authority)


def issued(usages, days=(-1, 1), key=KEY, by=CA):
    """A certificate of the CA as it never issues one."""
    now = datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "somebody")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(by.certificate.subject)
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    start, end = (now + datetime.timedelta(days=d) for d in days)
    builder = builder.not_valid_before(start).not_valid_after(end)
    builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=True)
    return builder.sign(by.key, hashes.SHA384())


@pytest.mark.parametrize(("days", "says"), [((-9, -2), "ended on 20"), ((2, 9), "not valid yet")])
def test_only_a_certificate_that_is_valid_now_counts(folder, authority, days, says):
    sign_folder(folder, KEY, issued([certificates.DOCUMENT_SIGNING], days))
    with pytest.raises(ConfigError, match=says):
        verify_folder(folder, authority)


def test_a_revoked_certificate_is_named(folder, tmp_path):
    first, second = (CA.issue_signer("fed", KEY.public_key()) for _ in range(2))
    write_certificates(tmp_path / "ca.crt", CA.certificate)
    revocations = CA.revoke(first.serial_number, None)
    (tmp_path / "ca.crl").write_bytes(revocations.public_bytes(Encoding.PEM))
    authority = Authority.read(tmp_path / "ca.crt", tmp_path / "ca.crl")
    sign_folder(folder, KEY, first)
    with pytest.raises(ConfigError, match="was revoked"):
        verify_folder(folder, authority)
    sign_folder(folder, KEY, second)
    assert verify_folder(folder, authority) == "fed"
    later = CA.revoke(second.serial_number, revocations)
    assert {entry.serial_number for entry in later} == {first.serial_number, second.serial_number}


def test_a_list_of_revoked_ones_by_somebody_else_is_refused(tmp_path):
    other = certificates.Authority.new("a CA", make_key())  # of the same name
    path = tmp_path / "ca.crl"
    for content in (other.revoke(1, None).public_bytes(Encoding.PEM), b"rubbish", b"\xff\xfe"):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match="get it again from the coordinator"):
            read_revocations(path, [CA.certificate])


def test_a_key_of_another_kind_is_refused(folder, authority):
    key = rsa.generate_private_key(65537, 2048)
    certificate = issued([certificates.DOCUMENT_SIGNING], key=key)
    sign_folder(folder, KEY, CA.issue_signer("fed", KEY.public_key()))
    told = json.loads((folder / "signature.json").read_text())
    told["certificate"] = certificate.public_bytes(Encoding.PEM).decode()
    (folder / "signature.json").write_text(json.dumps(told))
    with pytest.raises(ConfigError, match="was changed after it was signed"):
        verify_folder(folder, authority)


def test_nobody_signs_with_a_key_that_is_not_the_certificate_s(folder):
    with pytest.raises(ConfigError, match="run: pneumofed server renew signing"):
        sign_folder(folder, KEY, CA.issue_signer("fed", make_key().public_key()))
    assert not (folder / "signature.json").exists()


def test_what_is_no_plain_file_is_refused(folder, authority, tmp_path):
    sign_folder(folder, KEY, CA.issue_signer("fed", KEY.public_key()))
    (tmp_path / "elsewhere").write_text("{}")
    (folder / "card.json").unlink()
    (folder / "card.json").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="not a plain file"):
        verify_folder(folder, authority)
    (folder / "card.json").unlink()
    (folder / "card.json").mkdir()
    with pytest.raises(ConfigError, match="not a plain file"):
        verify_folder(folder, authority)


@settings(max_examples=60, deadline=None)
@given(st.one_of(st.binary(max_size=80), st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["files", "signature", "certificate", "x"]), inner, max_size=4), max_leaves=8)))  # fmt: skip
def test_whatever_stands_in_the_signature_s_place_is_one_line(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("model")
    write_certificates(folder.parent / "ca.crt", CA.certificate)
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    (folder / SIGNATURE).write_bytes(data)
    with pytest.raises(ConfigError) as problem:
        verify_folder(folder, Authority.read(folder.parent / "ca.crt", folder.parent / "none"))
    assert "\n" not in str(problem.value)


@pytest.mark.parametrize("part", ["files", "signature", "certificate"])
def test_parts_of_two_signatures_do_not_mix(folder, authority, part):
    sign_folder(folder, KEY, CA.issue_signer("fed", KEY.public_key()))
    one = json.loads((folder / SIGNATURE).read_text())
    (folder / "card.json").write_text('{"better": true}')
    other_key = make_key()
    sign_folder(folder, other_key, CA.issue_signer("fed", other_key.public_key()))
    other = json.loads((folder / SIGNATURE).read_text())
    (folder / SIGNATURE).write_text(json.dumps({**other, part: one[part]}))
    with pytest.raises(ConfigError):
        verify_folder(folder, authority)


def test_the_signature_is_what_any_tool_can_check(folder):
    certificate = CA.issue_signer("fed", KEY.public_key())
    sign_folder(folder, KEY, certificate)
    content = json.loads((folder / SIGNATURE).read_text())
    signed = canonical_json(content["files"]).encode()
    KEY.public_key().verify(base64.b64decode(content["signature"]), signed, ec.ECDSA(hashes.SHA384()))
