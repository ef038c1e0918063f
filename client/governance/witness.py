"""What else knows of the privacy ledger: the audit log and the server.

A ledger that was lost, deleted, or put back from an older copy has forgotten what was spent; nothing trains
on it until a person has cured that.
"""

from pathlib import Path

from client.governance.accounting import epsilon
from client.governance.ledger import Budget, Ledger
from common.audit import AuditLog, read_entries
from common.errors import DataError, RefusedError

CURE = "it was lost, or an older copy was put back: bring the newest copy (docs/privacy.md)"


def seen_by(audit: Path) -> tuple[int, str] | None:
    """Entries of the ledger, and the last one's hash, as the audit log saw them last; None if it never
    did."""
    last = None
    for entry in read_entries(audit):
        if entry.event == "ledger":
            last = (int(str(entry.facts["entries"])), str(entry.facts["last"]))
    return last


def require_known(ledger: Path, seen: tuple[int, str] | None) -> None:
    """Raises DataError if the ledger is not the one that was `seen`, or a later state of it."""
    if seen is None:
        return
    number, digest = seen
    entries = Ledger(ledger).entries() if ledger.exists() else []
    if len(entries) < number:
        raise DataError(f"{ledger}: {len(entries)} entries, the audit log has seen {number}; {CURE}")
    if entries[number - 1] != digest:
        raise DataError(f"{ledger}: its entry {number} is not the one that the audit log has seen; {CURE}")


def known_ledger(path: Path, audit: Path) -> Ledger | None:
    """A site's ledger for whoever only reads it; None where nothing was ever spent. Makes no file.

    Raises:
        DataError: it is lost or older than the audit log knows, or the audit log cannot be read.
    """
    require_known(path, seen_by(audit))
    return Ledger(path) if path.exists() else None


class Witness:
    """The audit log's word on one site's ledger."""

    def __init__(self, ledger: Path, audit: AuditLog) -> None:
        self._ledger, self._audit = ledger, audit
        self._seen = seen_by(audit.path)

    def note(self) -> None:
        """Write down in the audit log how far the ledger is. Raises OSError."""
        entries = Ledger(self._ledger).entries() if self._ledger.exists() else []
        if entries:
            self._audit.add("ledger", entries=len(entries), last=entries[-1])
            self._seen = (len(entries), entries[-1])

    def require(self, plan: str, run: str, answered: int) -> None:
        """Raises DataError if the ledger knows less than the audit log, or than the server, which has this
        site's updates of a private plan's run up to round `answered`."""
        require_known(self._ledger, self._seen)
        known = Ledger(self._ledger).last_round(plan, run) if self._ledger.exists() else 0
        if known < answered:
            raise DataError(
                f"{self._ledger}: knows round {known} of the run, the server has this site's update of round "
                f"{answered}; {CURE}"
            )

    def require_within(self, budget: Budget, plan: str, run: str) -> None:
        """Raises RefusedError if what a run's patients have spent, this run among it, is over a budget that
        was changed since it was reserved; or nobody knows what they have."""
        try:
            spent = Ledger(self._ledger).histories_with(plan, run) if self._ledger.exists() else []
        except DataError as e:
            raise RefusedError("this site's privacy ledger cannot be read") from e
        if any(epsilon(history, budget.delta) > budget.epsilon for history in spent):
            raise RefusedError("this site's privacy budget does not allow this answer any more")
