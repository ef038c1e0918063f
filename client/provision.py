"""A hospital's keys: made here, never sent. What goes out is a request; what comes back is a certificate for
it."""

import secrets
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from client.settings import Hospital, SiteFolder
from common.config import dump_yaml
from common.credentials import (
    is_issued_by,
    make_key,
    matches_key,
    parse_certificates,
    read_certificate,
    read_certificates,
    read_key,
    write_certificates,
    write_key,
)
from common.errors import ConfigError, WireError
from common.files import whole_or_nothing, write_atomically
from common.signature import parse_revocations
from common.trust import Trust, is_told_by


def init_site(folder: SiteFolder, settings: Hospital, ca: Path) -> None:
    """Make a site's folder (mode 0700): its key, the secret behind its pseudonyms, hospital.yaml and
    request.pem.

    Raises:
        ConfigError: the folder holds something already, or `ca` is not a certificate.
    """
    path = folder.path
    if path.exists() and any(path.iterdir()):
        raise ConfigError(f"{path}: is not empty; choose a new folder, a site's keys are never overwritten")
    read_certificate(ca)
    with whole_or_nothing(path):
        key = make_key()
        write_key(folder.key, key)
        write_atomically(folder.secret, secrets.token_hex(32).encode())
        folder.secret.chmod(0o600)
        write_atomically(folder.ca, ca.read_bytes())
        make_identity(folder)
        _ask_for(folder, key)
        write_atomically(folder.settings_file, dump_yaml(settings).encode())


def make_identity(folder: SiteFolder) -> None:
    """The key by which other hospitals know this one in secure aggregation, unless it is there."""
    if not folder.identity.exists():
        write_key(folder.identity, make_key())


def _ask_for(folder: SiteFolder, key: ec.EllipticCurvePrivateKey) -> None:
    """The request for a certificate of `key`; the coordinator gives the name."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a hospital's request")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA384())
    write_atomically(folder.request, request.public_bytes(Encoding.PEM))


def new_key(folder: SiteFolder) -> None:
    """Make another key and the request for it; the old one serves until `join` brings the certificate.

    Pseudonyms, splits, cohorts, approvals and the ledger hang on other secrets, and stay.
    """
    key = make_key()
    folder.next_key.unlink(missing_ok=True)
    write_key(folder.next_key, key)
    _ask_for(folder, key)


def join(folder: SiteFolder, certificate: Path) -> None:
    """Take in the coordinator's answer.

    Raises:
        ConfigError: the certificate is for another key, or was not signed by the CA of `client init`.
    """
    answer, key = read_certificate(certificate), folder.key
    if folder.next_key.exists() and matches_key(answer, read_key(folder.next_key)):
        key = folder.next_key
    elif not matches_key(answer, read_key(folder.key)):
        raise ConfigError(
            f"{certificate}: is for another key than this site's; did the coordinator sign this site's "
            "request.pem?"
        )
    if not is_issued_by(answer, read_certificates(folder.ca)):
        raise ConfigError(
            f"{certificate}: was not signed by {folder.ca}; ask the coordinator for the right CA"
        )
    key.replace(folder.key)
    write_certificates(folder.certificate, answer)


def take_in(folder: SiteFolder, trust: Trust) -> list[str]:
    """Follow the CA and renew this site's certificate, by what the server tells; returns what changed, in
    words.

    Raises:
        WireError: the CA that this site trusts did not sign it; nothing is changed then.
    """
    changes, authorities = [], read_certificates(folder.ca)
    if trust.authorities and trust.authorities != folder.ca.read_text():
        if not is_told_by(trust, authorities):
            raise WireError(
                "the server tells of another CA, and the one that this site trusts did not sign that"
            )
        authorities = parse_certificates(trust.authorities)
        write_certificates(folder.ca, *authorities)
        changes.append("the CA was renewed")
    if trust.revoked and not (folder.revoked.exists() and folder.revoked.read_text() == trust.revoked):
        parse_revocations(trust.revoked, authorities)
        write_atomically(folder.revoked, trust.revoked.encode())
        changes.append("certificates were revoked")
    if trust.certificate and trust.certificate != folder.certificate.read_text():
        own, *more = parse_certificates(trust.certificate)
        if more or not matches_key(own, read_key(folder.key)) or not is_issued_by(own, authorities):
            raise WireError(
                "the server tells of a certificate for this site that is not for its key, or not of its CA"
            )
        write_certificates(folder.certificate, own)
        changes.append(f"this site's certificate was renewed, until {own.not_valid_after_utc:%Y-%m-%d}")
    return changes
