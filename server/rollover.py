"""`pneumofed server renew ca`: a new CA in the place of the old one, without stopping a run.

It goes in steps. `ca` makes the new one, has the old one sign it (trust.json), and issues every admitted
site's certificate anew under it; agents fetch both by themselves (common/trust.py). When all have, `server`
puts the server's own certificate under the new CA. The old one is trusted until then, by both sides.

The new files are made beside the old ones, and put in their place by a switch which is gone on with where it
was cut off: half a renewal would lock every hospital out.
"""

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from common.credentials import (
    is_issued_by,
    make_key,
    matches_key,
    read_certificate,
    read_certificates,
    read_key,
    write_certificates,
    write_key,
)
from common.errors import ConfigError
from common.files import write_atomically
from common.trust import Trust, sign_authorities
from server.certificates import Authority
from server.provision import read_authority, read_sites
from server.renewal import issue_sites, sites_behind
from server.settings import ServerFolder

NEXT, OLD = "ca-next.key", "ca-old.key"
"""Beside the CA's key: before the switch, and after it."""


def renew_ca(folder: ServerFolder, ca_key: Path | None) -> list[str]:
    """A new CA, told by the old one; and every site's certificate under it. Returns the sites' names.

    The old CA's key becomes ca-old.key, which nobody needs any more.

    Raises:
        ConfigError: an earlier renewal is not finished: a second one would lose who knows which, or the
            server.
    """
    path = ca_key or folder.ca_key
    if not switch(folder, path):  # otherwise one that was cut off is done
        _prepare(folder, path, read_authority(folder, ca_key))
        switch(folder, path)
    _issue_to_others(folder, read_authority(folder, ca_key))
    return [entry.name for entry in read_sites(folder.sites) if entry.revoked is None]


def _issue_to_others(folder: ServerFolder, new: Authority) -> None:
    """To sites that were admitted, or came back with another key, while a renewal was cut off."""
    for entry in read_sites(folder.sites):
        path = folder.certificates / f"{entry.name}.crt"
        key = load_pem_public_key(entry.public_key.encode())
        assert isinstance(key, ec.EllipticCurvePublicKey)
        known = read_certificate(path) if path.is_file() else None
        fits = known and known.public_key() == key and is_issued_by(known, [new.certificate])
        if entry.revoked is None and not fits:
            write_certificates(path, new.issue_site(entry.name, key))


def is_cut_off(folder: ServerFolder) -> bool:
    """Whether a renewal is waiting to be gone on with."""
    return folder.renewal.is_dir()


def switch(folder: ServerFolder, ca_key: Path) -> bool:
    """Put what was prepared in its place; returns whether it is. Cut off anywhere, the next call goes on with
    it. Without the new CA's key at hand nothing is switched: until then the old CA is whole."""
    ready, key = folder.renewal, ca_key.with_name(NEXT)
    certificate = ready / folder.ca_certificate.name
    expected = read_certificate(certificate if certificate.is_file() else folder.ca_certificate)
    if _is_key_of(key, expected):
        if ca_key.exists():
            os.replace(ca_key, ca_key.with_name(OLD))
        os.replace(key, ca_key)
    if not ready.is_dir() or not _is_key_of(ca_key, expected):
        return False
    for path in sorted((ready / "certificates").glob("*.crt")):
        os.replace(path, folder.certificates / path.name)
    for place in (folder.trust, folder.ca_certificate):
        if (path := ready / place.name).is_file():
            os.replace(path, place)
    shutil.rmtree(ready)
    return True


def _is_key_of(key: Path, certificate: x509.Certificate) -> bool:
    return key.is_file() and matches_key(certificate, read_key(key))


def _prepare(folder: ServerFolder, ca_key: Path, old: Authority) -> None:
    _require_finished(folder, old)
    new = Authority.new("pneumofed CA of " + folder.settings().host, make_key())
    made = folder.renewal.with_suffix(".new")
    shutil.rmtree(made, ignore_errors=True)
    (made / "certificates").mkdir(parents=True, mode=0o700)
    ca_key.with_name(NEXT).unlink(missing_ok=True)
    write_key(ca_key.with_name(NEXT), new.key)
    write_certificates(made / folder.ca_certificate.name, new.certificate, old.certificate)
    authorities = (made / folder.ca_certificate.name).read_text()
    trust = Trust(authorities=authorities, signature=sign_authorities(authorities, old.key))
    write_atomically(made / folder.trust.name, (json.dumps(asdict(trust), indent=2) + "\n").encode())
    issue_sites(folder, new, made / "certificates")
    shutil.rmtree(folder.renewal, ignore_errors=True)  # one whose key is lost, and of which nobody was told
    os.replace(made, folder.renewal)


def _require_finished(folder: ServerFolder, old: Authority) -> None:
    before = read_certificates(folder.ca_certificate)
    if len(before) > 1 and (behind := sites_behind(folder)):
        raise ConfigError(
            f"the CA was renewed already, and {', '.join(behind)} did not take it in yet; wait for them"
        )
    if not is_issued_by(read_certificate(folder.certificate), [old.certificate]):
        raise ConfigError(
            "the server still shows a certificate of the CA before this one, which sites would trust no "
            "more: pneumofed server renew server, first"
        )
