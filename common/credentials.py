"""Keys and certificates: made where they are used, written so that only their owner reads them, checked
before use.

One key pair a site serves both TLS and as Flower's node key, which ties the two together: a certificate of
one site is worthless with the key of another. Curve P-384, as Flower wants it of node keys.
"""

import datetime
import ssl
import stat
from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from common.errors import ConfigError, WireError
from common.files import write_atomically, write_new
from common.text import cannot_be_read, quoted

EXPIRES_SOON_DAYS = 30.0
"""From so many days on, everybody is warned that a certificate ends."""


def make_key() -> ec.EllipticCurvePrivateKey:
    """A new P-384 key from the operating system's random numbers."""
    return ec.generate_private_key(ec.SECP384R1())


def write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    """Write the key as PEM, whole or not at all, with mode 0600; never overwrites. Raises OSError."""
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_new(path, pem)


def read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """The private key in `path`.

    Raises:
        ConfigError: it is missing, not a P-384 key, or others may read it, or this account may not. The text
        never holds the file's contents.
    """
    require_private(path)
    pem = _read(path, "the file that init made")
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigError(
            f"{path}: not a readable private key; restore it, or make a new one and have it admitted"
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP384R1):
        raise ConfigError(f"{path}: found another kind of key, expected one on the curve P-384")
    return key


def _read(path: Path, expected: str) -> bytes:
    """Raises ConfigError that tells a file that is not there from one that may not be read: only the first
    is to be made anew."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; expected {expected}") from None
    except OSError as e:
        raise ConfigError(cannot_be_read(path, e)) from None


def require_private(path: Path) -> None:
    """Raise ConfigError unless `path` is a file that only its owner can read."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as e:
        raise ConfigError(f"{path}: {e.strerror}; expected the file that init made") from None
    if mode & 0o077:
        advice = f"run: chmod 600 {quoted(path)} (and consider it seen)"
        raise ConfigError(f"{path}: its mode is {mode:o}, others could read it; {advice}")


def read_certificate(path: Path) -> x509.Certificate:
    """The first certificate in the PEM file. Raises ConfigError if there is none, or it cannot be read."""
    pem = _read(path, "a certificate in PEM form")
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError:
        raise ConfigError(f"{path}: not a certificate in PEM form") from None


def read_certificates(path: Path) -> list[x509.Certificate]:
    """All certificates in the PEM file: a CA's, while it is renewed, are two. Raises ConfigError if there is
    none."""
    pem = _read(path, "certificates in PEM form")
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise ConfigError(f"{path}: not certificates in PEM form") from None


def parse_certificates(text: str) -> list[x509.Certificate]:
    """All certificates in a PEM text that came over the wire. Raises WireError if it holds none."""
    try:
        return x509.load_pem_x509_certificates(text.encode())
    except ValueError:
        raise WireError("what should be certificates in PEM form is not") from None


def write_certificates(path: Path, *certificates: x509.Certificate) -> None:
    """Write them as PEM, one after another, whole or not at all."""
    write_atomically(path, b"".join(c.public_bytes(serialization.Encoding.PEM) for c in certificates))


def is_issued_by(certificate: x509.Certificate, authorities: Iterable[x509.Certificate]) -> bool:
    """Whether one of `authorities` signed it."""
    for authority in authorities:
        try:
            certificate.verify_directly_issued_by(authority)
            return True
        except Exception:  # noqa: S112 - cryptography raises several kinds, all meaning no
            continue
    return False


def purposes_of(certificate: x509.Certificate) -> set[x509.ObjectIdentifier]:
    """What the certificate may be used for: its extended key usages."""
    try:
        return set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except (x509.ExtensionNotFound, ValueError):
        return set()


def read_request(path: Path) -> x509.CertificateSigningRequest:
    """A site's request, signed by the key that it is about. Raises ConfigError if it is not one."""
    expected = "the request.pem that `pneumofed client init` wrote"
    pem = _read(path, expected)
    try:
        request = x509.load_pem_x509_csr(pem)
    except ValueError:
        raise ConfigError(f"{path}: not a request; expected {expected}") from None
    key = request.public_key()
    if (
        not request.is_signature_valid
        or not isinstance(key, ec.EllipticCurvePublicKey)
        or key.curve.name != "secp384r1"
    ):
        raise ConfigError(
            f"{path}: its signature or kind of key is wrong; have the hospital run `pneumofed client init` "
            "again"
        )
    return request


def public_pem(key: object) -> bytes:
    """The public half of a key as PEM: what identifies a site. Raises WireError if it is of another kind."""
    public = key.public_key() if isinstance(key, ec.EllipticCurvePrivateKey) else key
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise WireError("found a key of another kind, expected one on an elliptic curve")
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def matches_key(
    about: x509.Certificate | x509.CertificateSigningRequest, key: ec.EllipticCurvePrivateKey
) -> bool:
    """Whether a certificate, or a request for one, which anybody may have made, is for `key`."""
    try:
        return public_pem(about.public_key()) == public_pem(key)
    except Exception:  # cryptography raises several kinds where a key is broken or not known
        return False


def common_name(certificate: x509.Certificate) -> str:
    """The name that a certificate was given: the site's, or the server's host."""
    attributes = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(attributes[0].value) if attributes else ""


def sha256_fingerprint(certificate: x509.Certificate) -> str:
    """Two hex digits a byte, with colons: short enough to read out over the telephone."""
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def days_left(certificate: x509.Certificate) -> float:
    """Days until the certificate ends; negative after."""
    return (certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)).total_seconds() / 86400


def client_tls(ca: Path, certificate: Path, key: Path) -> ssl.SSLContext:
    """TLS 1.3 for a site: trusts that one CA, shows its own certificate.

    Raises:
        ConfigError: a file is missing, wrong, or not to be read by this account, or the certificate and the
        key do not belong together.
    """
    read_key(key)
    for path in (ca, certificate):
        read_certificate(path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(ca)
    try:
        context.load_cert_chain(certificate, key)
    except ssl.SSLError:
        raise ConfigError(f"{certificate}: does not belong to the key {key}") from None
    return context
