"""The self-test of a site: in plain words what works, what does not, and what to do."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from client.governance.approval import Approvals
from client.governance.witness import known_ledger
from client.link_errors import explain
from client.settings import Hospital, Pacs, SiteFolder
from client.skew import MAX_SKEW_S, clock_skew, describe_skew
from common.audit import verify
from common.checkup import Finding, Outcome, check_disk, check_mode, each
from common.credentials import (
    EXPIRES_SOON_DAYS,
    client_tls,
    common_name,
    days_left,
    matches_key,
    public_pem,
    read_certificate,
    read_key,
    read_request,
    sha256_fingerprint,
)
from common.errors import PneumofedError
from common.files import listed
from common.plan import Plan
from common.protocol import FLEET
from common.text import cannot_be_read, quoted, without_userinfo

if TYPE_CHECKING:
    from client.imaging.cohort import Cohort

SHOWN = 6  # files of which a finding tells


def check_site(folder: SiteFolder) -> Iterator[Finding]:
    """Test everything that `client up` needs, in the order in which it would fail."""
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
            "access": lambda: _check_access(folder),
            "CA": lambda: _check_ca(folder),
            "keys": lambda: _check_keys(folder),
            "server": lambda: _check_network(folder, settings),
            "disk": lambda: check_disk(folder.path),
            "pacs": lambda: _check_pacs(settings.data.pacs),
            "device": lambda: _check_device(settings),
            "plan": lambda: _check_plans(folder, settings),
            "audit": lambda: _check_audit(folder),
            "ledger": lambda: _check_ledger(folder),
        }
    )


def _check_access(folder: SiteFolder) -> Iterator[Finding]:
    """Whether this account can use what lies here: what another one made by a command may be that one's."""
    own = [path for path in vars(folder).values() if path.exists()]
    plans, logs = listed(folder.plans), listed(folder.logs)
    written = {path for path in own if path.is_dir()} - {folder.images}
    written |= {folder.audit, folder.ledger, *plans, *logs}
    used = [*own, *plans, *logs, *(file for plan in plans for file in listed(plan))]
    denied = [path for path in used if not _may_use(path, writing=path in written)]
    if denied:
        names = ", ".join(str(path.relative_to(folder.path)) for path in denied[:SHOWN])
        more = f" and {len(denied) - SHOWN} more" if len(denied) > SHOWN else ""
        advice = "give all commands as the account that the service runs as, and give these to it (chown)"
        yield Finding("fails", "access", f"this account cannot read, or not write, {names}{more}; {advice}")


def _may_use(path: Path, *, writing: bool) -> bool:
    entering = os.X_OK if path.is_dir() else 0
    return os.access(path, os.R_OK | entering | (os.W_OK if writing else 0))


def _check_ca(folder: SiteFolder) -> Iterator[Finding]:
    try:
        ca = read_certificate(folder.ca)
        yield Finding("ok", "CA", f"compare by telephone: {sha256_fingerprint(ca)}")
    except PneumofedError as e:
        yield Finding("fails", "CA", str(e))


def _check_keys(folder: SiteFolder) -> Iterator[Finding]:
    if not folder.certificate.is_file():
        advice = f"send {folder.request} to the coordinator, then: pneumofed client join FILE"
        yield Finding("fails", "admission", f"no certificate yet; {advice}")
        return
    try:
        client_tls(folder.ca, folder.certificate, folder.key)
        certificate = read_certificate(folder.certificate)
    except PneumofedError as e:
        yield Finding("fails", "keys", str(e))
        return
    yield from _check_next_key(folder)
    left = days_left(certificate)
    if left < 0:
        yield Finding(
            "fails",
            "keys",
            f"the certificate ended {-left:.0f} days ago; send {folder.request} to the coordinator again",
        )
    else:
        outcome: Outcome = "note" if left < EXPIRES_SOON_DAYS else "ok"
        yield Finding(
            outcome, "keys", f"private, and admitted as {common_name(certificate)} for {left:.0f} more days"
        )


def _check_next_key(folder: SiteFolder) -> Iterator[Finding]:
    try:
        folder.next_key.read_bytes()
    except FileNotFoundError:
        return
    try:
        whole = matches_key(read_request(folder.request), read_key(folder.next_key))
    except PneumofedError:
        whole = False
    if whole:
        advice = f"send {folder.request} to the coordinator, then: pneumofed client join FILE"
        yield Finding("note", "keys", f"another key was made and is not admitted yet; {advice}")
    else:
        advice = f"give it again: pneumofed client rekey --dir {quoted(folder.path)}"
        yield Finding("note", "keys", f"the making of another key was cut off; {advice}")


def _check_network(folder: SiteFolder, settings: Hospital) -> Iterator[Finding]:
    host = settings.server.rpartition(":")[0]
    if settings.proxy is None:
        try:
            socket.getaddrinfo(host, None)
            yield Finding("ok", "name", f"{host} can be resolved")
        except OSError:
            yield Finding(
                "fails",
                "name",
                f"{host} cannot be resolved; check server in hospital.yaml and the DNS, or set proxy",
            )
            return
    if not folder.certificate.is_file():
        return
    way = f"through {without_userinfo(settings.proxy)}" if settings.proxy else "directly"
    try:
        response = _ask_nothing(folder, settings)
    except PneumofedError:
        return  # said already
    except (httpx.HTTPError, OSError) as e:
        yield Finding("fails", "server", explain(e, settings.server))
        return
    yield Finding(
        "ok", "server", f"{settings.server} answers {way} over TLS 1.3 with a certificate of our CA"
    )
    yield from _check_clock(response)
    yield _check_admission(response)


def _ask_nothing(folder: SiteFolder, settings: Hospital) -> httpx.Response:
    """Call what does not exist: an admitted site is told so, others are turned away. Raises ConfigError,
    httpx.HTTPError."""
    from base64 import b64encode

    from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER

    tls, key = client_tls(folder.ca, folder.certificate, folder.key), read_key(folder.key)
    header = {FLEET_HTTP_PUBLIC_KEY_HEADER: b64encode(public_pem(key)).decode()}
    with httpx.Client(verify=tls, timeout=10, proxy=settings.proxy, trust_env=False) as client:
        return client.post(f"https://{settings.server}{FLEET}/", content=b"", headers=header)


WORTH_A_NOTE_S = 2.0


def _check_clock(response: httpx.Response) -> Iterator[Finding]:
    skew = clock_skew(response)
    if skew is None:
        yield Finding("note", "clock", "the server does not tell its time")
    elif abs(skew) > MAX_SKEW_S:
        yield Finding("fails", "clock", f"{describe_skew(skew)}; set it right (NTP)")
    elif abs(skew) > WORTH_A_NOTE_S:
        advice = f"more than {MAX_SKEW_S:.0f} s are too many; let NTP keep it"
        yield Finding("note", "clock", f"{describe_skew(skew)}; {advice}")
    else:
        yield Finding("ok", "clock", f"within {max(1.0, abs(skew)):.0f} s of the server's")


def _check_admission(response: httpx.Response) -> Finding:
    if response.status_code == httpx.codes.UNAUTHORIZED:
        return Finding(
            "fails",
            "admission",
            "the server does not admit this site's key; was it revoked, or never admitted?",
        )
    return Finding("ok", "admission", "the server admits this site's key")


def _check_pacs(pacs: Pacs | None) -> Iterator[Finding]:
    if pacs is None:
        return
    from client.pacs.archive import Refused, Unreachable
    from client.pacs.site import ask_nothing

    where = pacs.where
    try:
        ask_nothing(pacs)
        yield Finding("ok", "pacs", f"{where} answers questions")
    except PneumofedError as e:
        yield Finding("fails", "pacs", str(e))
    except Unreachable as e:
        yield Finding(
            "fails",
            "pacs",
            f"{where} does not answer ({e}); check data.pacs in hospital.yaml, and the PACS's firewall",
        )
    except Refused as e:
        known = f"; does the PACS know {pacs.own_title}?" if pacs.retrieve != "dicomweb" else ""
        yield Finding("fails", "pacs", f"{where} refuses a question ({e}){known}")


def _check_device(settings: Hospital) -> Iterator[Finding]:
    if settings.device == "cpu":
        yield Finding("ok", "device", "cpu")  # torch, which takes seconds, has nothing to add
        return
    from client.compute.device import choose_device, describe

    try:
        device = choose_device(settings.device)
    except PneumofedError as e:
        yield Finding("fails", "device", str(e))
        return
    outcome: Outcome = "note" if device.type == "cpu" and settings.device == "auto" else "ok"
    hint = "; no GPU was found, training will be slow" if outcome == "note" else ""
    yield Finding(outcome, "device", describe(device) + hint)


def _check_plans(folder: SiteFolder, settings: Hospital) -> Iterator[Finding]:
    approvals = Approvals(folder.plans)
    if not approvals.known():
        yield Finding("note", "plan", "none was proposed yet; it comes when the coordinator starts a run")
    for sha256 in approvals.known():
        decision = approvals.decision(sha256)
        if unread := approvals.unread(sha256):
            yield Finding("fails", "plan", unread)
        elif decision is None:
            yield Finding(
                "note", "plan", f"{sha256[:12]} awaits a decision; look with: pneumofed client pending"
            )
        elif decision.approved:
            yield from _check_plan(folder, settings, approvals, sha256)


def _check_plan(
    folder: SiteFolder, settings: Hospital, approvals: Approvals, sha256: str
) -> Iterator[Finding]:
    from client.imaging.cohort import Cohort, require_trainable

    try:
        plan = approvals.plan(sha256)
    except PneumofedError as e:
        yield Finding("fails", "plan", str(e))
        return
    name = f"{plan.name} {sha256[:12]}"
    objections = settings.policy.objections(plan)
    yield Finding(
        "fails" if objections else "ok",
        "policy",
        f"{name}: {'; '.join(objections) or 'the policy allows it'}",
    )
    cohort = folder.cohort(plan)
    if not cohort.is_dir():
        yield Finding(
            "fails",
            "cohort",
            f"{name}: there is none for its input contract; run: pneumofed client ingest {sha256[:12]}",
        )
        return
    try:
        opened = Cohort.open(cohort)
        require_trainable(
            opened, plan.split, max(plan.min_patients, settings.policy.min_patients), "this site"
        )
        left_out = f", {opened.tally.skipped_files} files left out" if opened.tally.skipped_files else ""
        yield Finding("ok", "cohort", f"{name}: {len(opened)} sequences{left_out}; look at {cohort}.html")
        if plan.evaluation.final and settings.policy.final:
            yield from _check_final(opened, plan, name, settings.policy.min_patients)
    except PneumofedError as e:
        yield Finding("fails", "cohort", f"{name}: {e}")


def _check_final(cohort: "Cohort", plan: Plan, name: str, least: int) -> Iterator[Finding]:
    """Whether the run's last model can be judged here: what is known before anything is trained."""
    test = cohort.split(plan.split)["test"]
    for k, finding in enumerate(plan.findings):
        for value, which in ((1.0, "with"), (0.0, "without")):
            n = cohort.count_patients(test[cohort.labels[test, k] == value])
            if n < least:
                few = f"{n} test patients are {which} {finding}, {least} are the least (policy.min_patients)"
                yield Finding("note", "final", f"{name}: no final scores will be told: {few}")


def _check_audit(folder: SiteFolder) -> Iterator[Finding]:
    try:
        n, _ = verify(folder.audit)
    except PneumofedError as e:
        yield Finding("fails", "audit", str(e))
        return
    if os.access(folder.path, os.W_OK):
        yield Finding("ok", "audit", f"{n} entries, the chain is whole")
    else:
        advice = "is this the user that the service runs as?"
        yield Finding("fails", "audit", f"{folder.path}: cannot be written to; {advice}")


def _check_ledger(folder: SiteFolder) -> Iterator[Finding]:
    """The privacy ledger by itself, and beside what the audit log has seen of it."""
    try:
        ledger = known_ledger(folder.ledger, folder.audit)
        n = ledger.verify() if ledger else 0
    except PneumofedError as e:
        yield Finding("fails", "ledger", str(e))
        return
    whole = f"{n} entries, whole, and no older than the audit log knows"
    yield Finding("ok", "ledger", whole if ledger else "nothing was spent yet")
