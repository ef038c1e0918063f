"""Who handed a folder over: one signature over the hash of every file in it, by the federation's signing
certificate.

Only a certificate that the federation's CA issued for signing documents counts (RFC 9336,
id-kp-documentSigning): a hospital's or the server's TLS certificate under the same CA signs nothing. A file
that the signature does not name is a fault too: what lies in a signed folder is taken for signed.
"""

import base64
import binascii
import datetime
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ObjectIdentifier

from common.credentials import common_name, is_issued_by, purposes_of, read_certificates
from common.errors import ConfigError, WireError
from common.files import write_atomically
from common.plan import canonical_json

SIGNATURE = "signature.json"
DOCUMENT_SIGNING = ObjectIdentifier("1.3.6.1.5.5.7.3.36")
EXPORT_AGAIN = "have the coordinator export the model again"


@dataclass(frozen=True)
class Authority:
    """The federation's CA as one side trusts it: its certificates (several while it is renewed), and what
    they revoked."""

    path: Path
    certificates: Sequence[x509.Certificate]
    revoked: frozenset[int]  # serial numbers

    @classmethod
    def read(cls, ca: Path, revocations: Path) -> "Authority":
        """Raises ConfigError if `ca` holds no certificate, or `revocations`, where it is there, is not of
        this CA."""
        certificates = read_certificates(ca)
        if not revocations.exists():
            return cls(ca, certificates, frozenset())
        return cls(
            ca, certificates, frozenset(r.serial_number for r in read_revocations(revocations, certificates))
        )


def read_revocations(path: Path, authorities: Sequence[x509.Certificate]) -> x509.CertificateRevocationList:
    """A list of revoked certificates. Raises ConfigError unless one of `authorities` signed it."""
    try:
        return parse_revocations(path.read_text(encoding="utf-8"), authorities)
    except (OSError, UnicodeDecodeError, WireError) as e:
        reason = e.strerror if isinstance(e, OSError) else e
        raise ConfigError(f"{path}: {reason}; get it again from the coordinator") from None


def parse_revocations(text: str, authorities: Sequence[x509.Certificate]) -> x509.CertificateRevocationList:
    """The list in a PEM text. Raises WireError unless one of `authorities` signed it."""
    try:
        revocations = x509.load_pem_x509_crl(text.encode())
    except ValueError:
        raise WireError("not a list of revoked certificates") from None
    for authority in authorities:
        key = authority.public_key()
        if isinstance(key, ec.EllipticCurvePublicKey) and revocations.is_signature_valid(key):
            return revocations
    raise WireError("the list of revoked certificates was not signed by the federation's CA")


def hashes_of(folder: Path) -> dict[str, str]:
    """File -> hex SHA-256 of all that lies in `folder`, the signature left out.

    Raises:
        ConfigError: something in it is not a plain file.
    """
    files = {}
    for path in sorted(folder.iterdir()):
        if path.is_symlink() or not path.is_file():
            raise ConfigError(f"{path}: is not a plain file; a handed-over folder holds nothing else")
        if path.name != SIGNATURE:
            files[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return files


def sign_folder(folder: Path, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
    """Write signature.json: the files' hashes, ECDSA with SHA-384 over them, and the certificate of the key.

    Raises:
        ConfigError: the certificate is another key's: nobody would take the signature.
    """
    if key.public_key() != certificate.public_key():
        raise ConfigError("signing.key is not the key of signing.crt; run: pneumofed server renew signing")
    files = hashes_of(folder)
    signature = key.sign(canonical_json(files).encode(), ec.ECDSA(hashes.SHA384()))
    content = {
        "files": files,
        "signature": base64.b64encode(signature).decode(),
        "certificate": certificate.public_bytes(Encoding.PEM).decode(),
    }
    write_atomically(folder / SIGNATURE, (json.dumps(content, indent=2) + "\n").encode())


def verify_folder(folder: Path, authority: Authority) -> str:
    """Check every file of `folder` against its signature, and the signature against the CA; returns who
    signed.

    Raises:
        ConfigError: it is not there, or unsigned; a file was changed, added or removed; or the signer's
        certificate is not the CA's, not for signing, not valid now, or revoked.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: there is no such folder; expected one that was handed over")
    path = folder / SIGNATURE
    signed, signature, certificate = _read_signature(folder)
    _require_signer(path, certificate, authority)
    public = certificate.public_key()
    try:
        if not isinstance(public, ec.EllipticCurvePublicKey):
            raise InvalidSignature
        public.verify(signature, canonical_json(signed).encode(), ec.ECDSA(hashes.SHA384()))
    except InvalidSignature:
        raise ConfigError(f"{path}: was changed after it was signed; {EXPORT_AGAIN}") from None
    _require_files(folder, signed)
    return common_name(certificate)


def _read_signature(folder: Path) -> tuple[dict[str, str], bytes, x509.Certificate]:
    path = folder / SIGNATURE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        signed = {str(name): str(sha256) for name, sha256 in content["files"].items()}
        signature = base64.b64decode(content["signature"], validate=True)
        return signed, signature, x509.load_pem_x509_certificate(content["certificate"].encode())
    except FileNotFoundError:
        raise ConfigError(
            f"{folder}: is not signed; the coordinator signs with: pneumofed server export RUN"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, binascii.Error):
        raise ConfigError(f"{path}: not a readable signature; {EXPORT_AGAIN}") from None


def _require_signer(path: Path, certificate: x509.Certificate, authority: Authority) -> None:
    if not is_issued_by(certificate, authority.certificates):
        raise ConfigError(f"{path}: its key is not under the CA {authority.path}")
    if purposes_of(certificate) != {DOCUMENT_SIGNING}:
        raise ConfigError(
            f"{path}: was made with a certificate that is not for signing models; only the coordinator's "
            "signing "
            f"certificate counts: {EXPORT_AGAIN}"
        )
    if certificate.serial_number in authority.revoked:
        raise ConfigError(f"{path}: its certificate was revoked; {EXPORT_AGAIN}")
    now = datetime.datetime.now(datetime.UTC)
    if now < certificate.not_valid_before_utc or now > certificate.not_valid_after_utc:
        ended = certificate.not_valid_after_utc
        state = (
            f"ended on {ended:%Y-%m-%d}"
            if now > ended
            else "is not valid yet: is this machine's clock right?"
        )
        raise ConfigError(f"{path}: its certificate {state}; {EXPORT_AGAIN}")


def _require_files(folder: Path, signed: dict[str, str]) -> None:
    there = hashes_of(folder)
    for name in sorted(signed.keys() | there.keys()):
        if name not in there:
            raise ConfigError(f"{folder / name}: is signed and missing; get the whole folder again")
        if name not in signed:
            raise ConfigError(
                f"{folder}: holds {name[:80]!r}, which is not signed; remove it, or get the folder again"
            )
        if there[name] != signed[name]:
            raise ConfigError(f"{folder / name}: was changed after it was signed; get the whole folder again")
