"""Who belongs to the federation: the CA, the server's certificate, and the admission and revocation of sites.

`sites.json` is the whole truth about admission; a running server looks at it on every request, so `revoke`
works at once.
"""

import datetime
import ipaddress
import json
import os
import re
import threading
from dataclasses import asdict, dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from common.config import dump_yaml
from common.credentials import make_key, public_pem, read_certificate, read_key, read_request, write_key
from common.errors import ConfigError
from common.files import write_atomically
from server.settings import ServerFolder, ServerSettings

CA_DAYS, CERTIFICATE_DAYS = 3650, 825
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_BACKDATED = datetime.timedelta(days=1)  # a site's clock may be behind the server's


@dataclass(frozen=True)
class SiteEntry:
    """One hospital as the server knows it."""

    name: str
    public_key: str
    """PEM; the same key for TLS and for node authentication."""
    admitted: str
    revoked: str | None = None


def init_server(folder: ServerFolder, settings: ServerSettings) -> None:
    """Make the CA, the server's certificate and the settings in a new folder (mode 0700).

    Raises:
        ConfigError: the folder holds something already.
    """
    path = folder.path
    if path.exists() and any(path.iterdir()):
        raise ConfigError(f"{path}: is not empty; choose a new folder, a server's keys are never overwritten")
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.chmod(0o700)
    ca_key, key = make_key(), make_key()
    write_key(folder.ca_key, ca_key)
    write_key(folder.key, key)
    ca = _certificate("pneumofed CA of " + settings.host, ca_key.public_key(), None, ca_key, CA_DAYS)
    write_atomically(folder.ca_certificate, ca.public_bytes(Encoding.PEM))
    _issue_server_certificate(folder, settings.host, ca, ca_key, key)
    write_atomically(folder.settings_file, dump_yaml(settings).encode())
    write_atomically(folder.sites, b"[]\n")


def _issue_server_certificate(
    folder: ServerFolder,
    host: str,
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    key: ec.EllipticCurvePrivateKey,
) -> None:
    certificate = _certificate(host, key.public_key(), ca, ca_key, CERTIFICATE_DAYS, server=True)
    write_atomically(folder.certificate, certificate.public_bytes(Encoding.PEM))


def _certificate(
    name: str, key: ec.EllipticCurvePublicKey, ca: x509.Certificate | None,
    ca_key: ec.EllipticCurvePrivateKey, days: int,
    *, server: bool = False,
) -> x509.Certificate:  # fmt: skip
    """A certificate signed by `ca_key`; the CA's own if `ca` is None, a server's, or a site's."""
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(ca.subject if ca else subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(
            x509.BasicConstraints(ca=ca is None, path_length=0 if ca is None else None), critical=True
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
        .add_extension(_key_usage(ca is None), critical=True)
    )
    if ca is not None:
        purpose = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=True)
    if server:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([_alternative_name(name)]), critical=False
        )
    return builder.sign(ca_key, hashes.SHA384())


def _key_usage(ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca, key_cert_sign=ca, crl_sign=ca, content_commitment=False,
        key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _alternative_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def admit(folder: ServerFolder, name: str, request: Path) -> Path:
    """Sign the site's request and allow its key; returns the certificate to hand back.

    Raises:
        ConfigError: the name is taken or malformed, the request is not one, or its key is known under another
        name.
    """
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"found the site name {name!r}, expected lower-case letters, digits and -, as in st-mary"
        )
    key = public_pem(read_request(request).public_key()).decode()
    entries = read_sites(folder.sites)
    for entry in entries:
        if entry.name == name and (entry.revoked is None and entry.public_key != key):
            raise ConfigError(
                f"{name}: admitted already with another key; revoke it first, or choose another name"
            )
        if entry.name != name and entry.public_key == key:
            raise ConfigError(
                f"{request}: its key belongs to the site {entry.name}; every site needs a key of its own"
            )
        if entry.public_key == key and entry.revoked is not None:
            raise ConfigError(
                f"{request}: its key was revoked; have the hospital make a new one with `pneumofed client "
                "init`"
            )
    ca, ca_key = read_certificate(folder.ca_certificate), read_key(folder.ca_key)
    public = read_request(request).public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    certificate = folder.certificates / f"{name}.crt"
    write_atomically(
        certificate, _certificate(name, public, ca, ca_key, CERTIFICATE_DAYS).public_bytes(Encoding.PEM)
    )
    kept = [entry for entry in entries if entry.name != name or entry.revoked is not None]
    _write_sites(folder.sites, [*kept, SiteEntry(name, key, _now())])
    return certificate


def revoke(folder: ServerFolder, name: str) -> None:
    """Take the site's admission back, at once and for this key for ever. Raises ConfigError if no such site
    is admitted."""
    entries = read_sites(folder.sites)
    if not any(entry.name == name and entry.revoked is None for entry in entries):
        known = ", ".join(entry.name for entry in entries if entry.revoked is None) or "none"
        raise ConfigError(f"{name}: no such site is admitted; admitted are: {known}")
    changed = [
        SiteEntry(e.name, e.public_key, e.admitted, _now()) if e.name == name and e.revoked is None else e
        for e in entries
    ]
    _write_sites(folder.sites, changed)


def read_sites(path: Path) -> list[SiteEntry]:
    """Every site ever admitted. Raises ConfigError if the file is not readable: nobody is let in then."""
    try:
        return [SiteEntry(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError) as e:
        raise ConfigError(
            f"{path}: cannot be read ({type(e).__name__}); restore it, or admit the sites again"
        ) from None


def _write_sites(path: Path, entries: list[SiteEntry]) -> None:
    write_atomically(path, (json.dumps([asdict(entry) for entry in entries], indent=2) + "\n").encode())


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


class Admissions:
    """The admitted sites, as `sites.json` has them at this moment."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        self._stamp: tuple[int, int] | None = None
        self._sites: dict[str, SiteEntry] = {}

    def current(self) -> dict[str, SiteEntry]:
        """Public key (PEM) -> site. The file is read again when it has changed; if it cannot be read, nobody
        is admitted."""
        with self._lock:
            try:
                about = os.stat(self._path)
                stamp = (about.st_mtime_ns, about.st_ino)  # every change is a new file, renamed into place
                if stamp != self._stamp:
                    entries = read_sites(self._path)
                    self._sites = {e.public_key: e for e in entries if e.revoked is None}
                    self._stamp = stamp
            except (OSError, ConfigError):
                self._sites, self._stamp = {}, None
            return self._sites
