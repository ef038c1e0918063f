"""`pneumofed server renew`: certificates, renewed while the server runs and without stopping a run; the CA
itself is rollover.py's."""

import json
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_public_key

from common.credentials import (
    is_issued_by,
    make_key,
    read_certificate,
    read_certificates,
    sha256_fingerprint,
    write_certificates,
    write_key,
)
from common.errors import ConfigError
from common.files import write_atomically
from common.signature import read_revocations
from common.trust import Trust
from server.certificates import Authority
from server.provision import read_authority, read_sites
from server.settings import ServerFolder


def renew_server(folder: ServerFolder, ca_key: Path | None, *, without: frozenset[str] = frozenset()) -> None:
    """A new certificate for the server's key and the host in server.yaml; the running server takes it up by
    itself.

    Raises:
        ConfigError: some sites do not know the CA of the new certificate yet, and are not in `without`.
    """
    authority, settings = read_authority(folder, ca_key), folder.settings()
    behind = [name for name in sites_behind(folder) if name not in without]
    if behind:
        raise ConfigError(
            f"{', '.join(behind)}: not there yet since the CA was renewed, and would not know the server "
            "again; wait "
            "until their agents have run, or leave them behind by name: --without NAME"
        )
    key = read_certificate(folder.certificate).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    write_certificates(folder.certificate, authority.issue_server(settings.host, key))


def renew_signing(folder: ServerFolder, ca_key: Path | None, *, revoke: bool) -> None:
    """A new key and certificate for the signature under models; with `revoke`, what the old one signed counts
    no more."""
    authority, settings = read_authority(folder, ca_key), folder.settings()
    if revoke and folder.signing.exists():
        before = None
        if folder.revoked.exists():
            before = read_revocations(folder.revoked, read_certificates(folder.ca_certificate))
        serial = read_certificate(folder.signing).serial_number
        write_atomically(folder.revoked, authority.revoke(serial, before).public_bytes(Encoding.PEM))
    key = make_key()
    folder.signing_key.unlink(missing_ok=True)
    write_key(folder.signing_key, key)
    write_certificates(folder.signing, authority.issue_signer(settings.host, key.public_key()))


def renew_sites(folder: ServerFolder, ca_key: Path | None) -> list[str]:
    """A new certificate for every admitted site's key; agents fetch theirs. Returns the sites' names."""
    return issue_sites(folder, read_authority(folder, ca_key), folder.certificates)


def issue_sites(folder: ServerFolder, authority: Authority, place: Path) -> list[str]:
    """Certificates of all admitted sites into `place`; returns their names."""
    entries = [entry for entry in read_sites(folder.sites) if entry.revoked is None]
    for entry in entries:
        key = load_pem_public_key(entry.public_key.encode())
        assert isinstance(key, ec.EllipticCurvePublicKey)
        write_certificates(place / f"{entry.name}.crt", authority.issue_site(entry.name, key))
    return [entry.name for entry in entries]


def trust_for(folder: ServerFolder, site: str) -> Trust:
    """What the server tells the admitted `site` of the CA."""
    told = Trust.parse(json.loads(folder.trust.read_text())) if folder.trust.exists() else Trust()
    own = folder.certificates / f"{site}.crt"
    return Trust(
        told.authorities,
        told.signature,
        folder.revoked.read_text() if folder.revoked.exists() else "",
        own.read_text() if own.exists() else "",
    )


def sites_behind(folder: ServerFolder) -> list[str]:
    """Admitted sites that did not show their newest certificate yet, while the CA is renewed; none at other
    times."""
    authorities = read_certificates(folder.ca_certificate)
    if len(authorities) == 1:
        return []
    shown, behind = read_shown(folder), []
    for name in (entry.name for entry in read_sites(folder.sites) if entry.revoked is None):
        newest = read_certificate(folder.certificates / f"{name}.crt")
        is_new = is_issued_by(newest, authorities[:1])
        if not is_new or shown.get(name) != sha256_fingerprint(newest):
            behind.append(name)
    return behind


def read_shown(folder: ServerFolder) -> dict[str, str]:
    """Site -> fingerprint of the certificate that it showed last; empty if nothing readable was noted."""
    try:
        shown = json.loads(folder.shown.read_text(encoding="utf-8"))
        return {str(site): str(fingerprint) for site, fingerprint in shown.items()}
    except (OSError, ValueError, AttributeError):
        return {}


def note_shown(folder: ServerFolder, site: str, fingerprint: str) -> None:
    """Keep which certificate `site` showed: how far a renewal has come. Raises OSError."""
    shown = read_shown(folder)
    if shown.get(site) != fingerprint:
        text = json.dumps({**shown, site: fingerprint}, indent=2, sort_keys=True)
        write_atomically(folder.shown, (text + "\n").encode())
