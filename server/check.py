"""The self-test of a server: in plain words what works, what does not, and what to do."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from common.audit import read_entries, verify
from common.checkup import Finding, Outcome, check_disk, check_mode, each
from common.credentials import (
    EXPIRES_SOON_DAYS,
    days_left,
    matches_key,
    parse_certificates,
    read_certificate,
    read_certificates,
    read_key,
    sha256_fingerprint,
)
from common.errors import PneumofedError
from common.handover import MODEL
from common.results.status import Status
from common.text import cannot_be_read, printable
from server.ask import ask_status
from server.certificates import is_for
from server.provision import came_back, read_sites
from server.renewal import sites_behind
from server.rollover import is_cut_off
from server.settings import ServerFolder, ServerSettings

RENEWALS = {
    "CA": "ca",
    "server": "server",
    "signing": "signing",
}  # `server renew` of what; sites have one for all


def check_server(folder: ServerFolder) -> Iterator[Finding]:
    """Test everything that `server up` needs, in the order in which it would fail, and what it says of
    itself."""
    try:
        settings = folder.settings()
    except (PneumofedError, OSError) as e:
        said = cannot_be_read(folder.path, e) if isinstance(e, OSError) else str(e)
        yield Finding("fails", "settings", said)
        return
    yield Finding("ok", "settings", f"{folder.settings_file} is in order")
    yield from each(
        {
            "folder": lambda: check_mode(folder.path),
            "certificates": lambda: check_certificates(folder),
            "host": lambda: _check_host(folder, settings),
            "keys": lambda: _check_keys(folder),
            "renewal": lambda: _check_renewal(folder),
            "sites": lambda: _check_sites(folder),
            "audit": lambda: _check_journal(folder),
            "disk": lambda: check_disk(folder.path),
            "server": lambda: _check_running(folder, settings),
        }
    )


def check_certificates(folder: ServerFolder) -> Iterator[Finding]:
    """How long each certificate lasts; a note from thirty days before its end."""
    for what, path in certificates_of(folder).items():
        renewal = RENEWALS.get(what, "sites")
        found = _lasting(what, path, f"pneumofed server renew {renewal}")
        if what in RENEWALS or found.outcome != "ok":
            yield found


def certificates_of(folder: ServerFolder) -> dict[str, Path]:
    """The federation's own certificates, and those of the admitted sites by their names."""
    try:
        sites = [entry.name for entry in read_sites(folder.sites) if entry.revoked is None]
    except PneumofedError:
        sites = []  # said elsewhere
    own = {"CA": folder.ca_certificate, "server": folder.certificate, "signing": folder.signing}
    return own | {name: folder.certificates / f"{name}.crt" for name in sites}


def days_of(path: Path) -> float:
    """Until a certificate ends. Raises ConfigError if it cannot be read."""
    return days_left(read_certificate(path))


def _lasting(what: str, path: Path, command: str) -> Finding:
    try:
        left = days_of(path)
    except PneumofedError as e:
        return Finding("fails", what, f"{e}; renew it with: {command}")
    if left < 0:
        return Finding("fails", what, f"its certificate ended {-left:.0f} days ago; run: {command}")
    outcome: Outcome = "note" if left < EXPIRES_SOON_DAYS else "ok"
    advice = f"; run: {command}" if outcome == "note" else ""
    return Finding(outcome, what, f"its certificate ends in {left:.0f} days{advice}")


def _check_host(folder: ServerFolder, settings: ServerSettings) -> Iterator[Finding]:
    with suppress(PneumofedError):  # said already
        if not is_for(read_certificate(folder.certificate), settings.host):
            advice = "server.yaml names it, the certificate does not; run: pneumofed server renew server"
            yield Finding("fails", "host", f"{printable(settings.host, 80)}: {advice}")


def _check_keys(folder: ServerFolder) -> Iterator[Finding]:
    for what, key, certificate in (
        ("server key", folder.key, folder.certificate),
        ("signing key", folder.signing_key, folder.signing),
        ("CA key", folder.ca_key, folder.ca_certificate),
    ):
        if key == folder.ca_key and not key.exists():
            yield Finding("ok", what, "is not on this machine, as is best; bring it to admit and renew")
            continue
        try:
            if not matches_key(read_certificate(certificate), read_key(key)):
                advice = "is not its certificate's: half of a renewal or of a restored copy; renew it again"
                yield Finding("fails", what, f"{key}: {advice}")
        except PneumofedError as e:
            yield Finding("fails", what, str(e))
    try:
        ca = read_certificates(folder.ca_certificate)[0]
        yield Finding("ok", "fingerprint", f"of the CA, for the telephone: {sha256_fingerprint(ca)}")
    except PneumofedError:
        return  # said already


def _check_renewal(folder: ServerFolder) -> Iterator[Finding]:
    if is_cut_off(folder):
        yield Finding(
            "fails",
            "renewal",
            "that of the CA was cut off; go on with it: pneumofed server renew ca (--ca-key FILE)",
        )


def _check_sites(folder: ServerFolder) -> Iterator[Finding]:
    try:
        entries = read_sites(folder.sites)
        behind = sites_behind(folder)
    except PneumofedError as e:
        yield Finding("fails", "sites", str(e))
        return
    admitted = [entry.name for entry in entries if entry.revoked is None]
    if not admitted:
        yield Finding("note", "sites", "none is admitted; run: pneumofed server admit NAME REQUEST")
    else:
        yield Finding("ok", "sites", f"admitted are {', '.join(sorted(admitted))}")
    for name in admitted:
        if before := came_back(folder, name):
            yield Finding("note", name, f"was revoked on {before} and came back with another key")
    if behind:
        advice = "did not take in the renewed CA yet; keep the old one until they did"
        yield Finding("note", "renewal", f"{', '.join(behind)} {advice}")


def _check_journal(folder: ServerFolder) -> Iterator[Finding]:
    """What the audit log knows and the folder has forgotten: an older copy was put back over it."""
    try:
        n, last = verify(folder.audit)
        entries = list(read_entries(folder.audit))
        admitted = {entry.name for entry in read_sites(folder.sites) if entry.revoked is None}
    except PneumofedError as e:
        yield Finding("fails", "audit", str(e))
        return
    yield Finding("ok", "audit", f"{n} entries, the chain is whole; its last hash is {last[:12]}")
    older = "was an older copy of the folder put back?"
    decided = {str(e.facts["site"]): e for e in entries if e.event in ("admitted", "revoked")}
    for name, entry in decided.items():
        if entry.event == "revoked" and name in admitted:
            advice = f"run: pneumofed server revoke {name}"
            yield Finding("fails", name, f"was revoked on {entry.time}, and is admitted; {older} {advice}")
        elif entry.event == "admitted" and name not in admitted:
            yield Finding("note", name, f"was admitted on {entry.time}, and is not; {older} Admit it again")
    for entry in entries:
        run = str(entry.facts.get("run", ""))
        if entry.event == "finished" and not (folder.runs / run / MODEL).is_file():
            yield Finding("note", "run", f"{run}: was finished on {entry.time}, its model is gone; {older}")


def _check_running(folder: ServerFolder, settings: ServerSettings) -> Iterator[Finding]:
    try:
        status = ask_status(folder)
    except PneumofedError:
        yield from _check_port(settings)
        return
    yield Finding("ok", "server", "runs and answers")
    yield from _check_served(folder, settings)
    yield from _check_runs(status)


def _check_served(folder: ServerFolder, settings: ServerSettings) -> Iterator[Finding]:
    """Whether hospitals are shown the certificate that lies in the folder."""
    here = "127.0.0.1" if settings.listen == "0.0.0.0" else settings.listen  # noqa: S104
    try:
        shown = parse_certificates(ssl.get_server_certificate((here, settings.port), timeout=5))[0]
        newest = read_certificate(folder.certificate)
    except (OSError, PneumofedError) as e:
        advice = "nobody shows a certificate there; was listen or port changed? Then restart the server"
        yield Finding("fails", "port", f"{here}:{settings.port}: {type(e).__name__}: {advice}")
        return
    if sha256_fingerprint(shown) != sha256_fingerprint(newest):
        yield Finding("note", "server", "shows the certificate of before; it takes up the new one in seconds")


def _check_port(settings: ServerSettings) -> Iterator[Finding]:
    where = f"{settings.listen}:{settings.port}"
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.listen, settings.port))
        except OSError as e:
            advice = "change listen or port in server.yaml, or end what has it"
            yield Finding("fails", "port", f"{where}: {e.strerror}; {advice}")
            return
    yield Finding("note", "server", f"does not run; {where} is free; start it with: pneumofed server up")


def _check_runs(status: Status) -> Iterator[Finding]:
    yield Finding("ok", "connected", ", ".join(status.connected) or "no site")
    for name, run in status.runs.items():
        if run.state in ("failed", "unreadable"):
            yield Finding("note", "run", f"{name}: {run.state}: {run.problem}")
        elif run.state in ("interrupted", "stopped"):
            advice = f"pneumofed server resume {name}, or cancel {name}"
            yield Finding("note", "run", f"{name}: {run.state}; {advice}")
