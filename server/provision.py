"""Who belongs to the federation: the CA, the server's certificate, and the admission and revocation of sites.

`sites.json` is the whole truth about admission; a running server looks at it on every request, so `revoke`
works at once.
"""

import datetime
import json
import logging
import os
import re
import threading
from dataclasses import asdict, dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from common.config import dump_yaml
from common.credentials import (
    make_key,
    matches_key,
    public_pem,
    read_certificate,
    read_key,
    read_request,
    write_certificates,
    write_key,
)
from common.errors import ConfigError
from common.files import changing, whole_or_nothing, write_atomically
from common.logs import Sparing
from common.text import cannot_be_read
from server.certificates import Authority
from server.settings import ServerFolder, ServerSettings

refusals = Sparing(logging.getLogger("pneumofed.server"))

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


@dataclass(frozen=True)
class SiteEntry:
    """One hospital as the server knows it."""

    name: str
    public_key: str
    """PEM; the same key for TLS and as node key."""
    admitted: str
    revoked: str | None = None


def init_server(folder: ServerFolder, settings: ServerSettings) -> None:
    """Make the CA, the server's certificates and the settings in a new folder (mode 0700).

    Raises:
        ConfigError: the folder holds something already.
    """
    path = folder.path
    if path.exists() and any(path.iterdir()):
        raise ConfigError(f"{path}: is not empty; choose a new folder, a server's keys are never overwritten")
    with whole_or_nothing(path):
        authority = Authority.new("pneumofed CA of " + settings.host, make_key())
        write_key(folder.ca_key, authority.key)
        write_certificates(folder.ca_certificate, authority.certificate)
        key, signing_key = make_key(), make_key()
        write_key(folder.key, key)
        write_key(folder.signing_key, signing_key)
        write_certificates(folder.certificate, authority.issue_server(settings.host, key.public_key()))
        write_certificates(folder.signing, authority.issue_signer(settings.host, signing_key.public_key()))
        write_atomically(folder.settings_file, dump_yaml(settings).encode())
        write_atomically(folder.sites, b"[]\n")


def read_authority(folder: ServerFolder, key: Path | None) -> Authority:
    """The CA with its key, which may lie elsewhere (`key`): it is needed to admit, renew and revoke, and only
    then.

    Raises:
        ConfigError: the key is not here, can be read by others, or is not the CA's.
    """
    path = key or folder.ca_key
    if not path.exists():
        raise ConfigError(
            f"{path}: the CA's key is not here; where it is kept offline, bring it: --ca-key FILE"
        )
    ca_key, certificate = read_key(path), read_certificate(folder.ca_certificate)
    if not matches_key(certificate, ca_key):
        raise ConfigError(f"{path}: is not the key of {folder.ca_certificate}; was the CA renewed since?")
    return Authority(ca_key, certificate)


def admit(folder: ServerFolder, name: str, request: Path, ca_key: Path | None = None) -> Path:
    """Sign the site's request and allow its key; returns the certificate to hand back.

    Raises:
        ConfigError: the name is taken or malformed, the request is not one, or its key is known under another
        name.
    """
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"found the site name {name!r}, expected lower-case letters, digits and -, as in st-mary"
        )
    with changing(folder.sites):
        return _admit(folder, name, request, ca_key)


def _admit(folder: ServerFolder, name: str, request: Path, ca_key: Path | None) -> Path:
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
    authority = read_authority(folder, ca_key)
    public = read_request(request).public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    certificate = folder.certificates / f"{name}.crt"
    write_certificates(certificate, authority.issue_site(name, public))
    kept = [entry for entry in entries if entry.name != name or entry.revoked is not None]
    _write_sites(folder.sites, [*kept, SiteEntry(name, key, _now())])
    return certificate


def came_back(folder: ServerFolder, name: str) -> str | None:
    """When the admitted site was last revoked, with another key; None if it never was."""
    dates = [entry.revoked for entry in read_sites(folder.sites) if entry.name == name and entry.revoked]
    return dates[-1] if dates else None


def revoke(folder: ServerFolder, name: str) -> None:
    """Take the site's admission back, at once and for this key for ever. Raises ConfigError if no such site
    is admitted."""
    with changing(folder.sites):
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
    except PermissionError as e:
        raise ConfigError(cannot_be_read(path, e)) from None
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
        """Public key (PEM) -> site, of those that may come in; nobody, while the file cannot be read."""
        with self._lock:
            return self._sites if self._look() else {}

    def known(self) -> dict[str, SiteEntry]:
        """The same, as it could last be read: a file that is broken for a moment takes no admission back."""
        with self._lock:
            self._look()
            return self._sites

    def _look(self) -> bool:
        """Whether the file can be read; it is read again when it has changed."""
        try:
            state = os.stat(self._path)
            stamp = (state.st_mtime_ns, state.st_ino)  # every change is a new file, renamed into place
            if stamp != self._stamp:
                entries = read_sites(self._path)
                self._sites = {e.public_key: e for e in entries if e.revoked is None}
                self._stamp = stamp
        except (OSError, ConfigError) as e:
            refusals.warning(f"nobody is let in: {e}", about=self._path.name)
            return False
        return True
