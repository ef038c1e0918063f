"""The audit log: one line for everything received, decided and sent. Append-only, chained by hashes, on the
disk before it counts.

Each line is JSON with a running number `n`, the hash of the line before (`previous`) and its own (`hash`,
SHA-256 over the rest). Changing, removing or inserting a line breaks the chain at that line. Cutting lines
off the end does not: note the count and the last hash, which `verify` gives, outside of the machine.
"""

import datetime
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from common.errors import DataError
from common.plan import canonical_json

GENESIS = "0" * 64
TAIL_BYTES = 1_000_000  # no entry is longer
Fact: TypeAlias = int | float | str | Mapping[str, float | None] | None
_FRAME = ("n", "time", "event", "previous", "hash")


@dataclass(frozen=True)
class Entry:
    """One line of the log: what happened, and its place in the chain."""

    n: int
    time: str
    event: str
    facts: Mapping[str, Fact]
    previous: str
    hash: str

    @classmethod
    def after(cls, n: int, previous: str, event: str, facts: Mapping[str, Fact]) -> "Entry":
        """The entry that follows entry `n` with the hash `previous`, now."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        entry = cls(n + 1, now, event, facts, previous, "")
        return cls(n + 1, now, event, facts, previous, entry.expected_hash)

    @classmethod
    def parse(cls, line: str | bytes) -> "Entry":
        """The entry that a line holds, its hash unchecked. Raises ValueError if it holds none."""
        try:
            values = json.loads(line)
            n, *texts = (values[name] for name in _FRAME)
            if type(n) is not int or not all(isinstance(text, str) for text in texts):
                raise ValueError("not an entry")
            time, event, previous, digest = texts
            if datetime.datetime.fromisoformat(time).tzinfo is None:
                raise ValueError("not an entry")
            facts = {name: value for name, value in values.items() if name not in _FRAME}
            entry = cls(n, time, event, facts, previous, digest)
            entry.line.encode()  # half a character, which JSON can hold, is none of ours and cannot be shown
        except (KeyError, TypeError, RecursionError):
            raise ValueError("not an entry") from None
        return entry

    @property
    def line(self) -> str:
        """JSON as it stands in the file, without the newline."""
        return json.dumps({**self._hashed(), "hash": self.hash}, ensure_ascii=False)

    @property
    def expected_hash(self) -> str:
        """SHA-256 over everything but the hash itself."""
        return hashlib.sha256(canonical_json(self._hashed()).encode()).hexdigest()

    def _hashed(self) -> dict[str, Fact]:
        return {
            "n": self.n, "time": self.time, "event": self.event, **self.facts, "previous": self.previous,
        }  # fmt: skip


class AuditLog:
    """Appends to one file. Use one object a file: the agent's lock on its folder sees to that."""

    def __init__(self, path: Path) -> None:
        """Open or make the log; what a crash left of a last line is cut off, and that is written down.

        Raises:
            DataError: the last whole line is not one of ours.
        """
        self.path = path
        self._n, self._last = 0, GENESIS
        torn = _cut_torn_line(path)
        entry = _last_entry(path)
        if entry is not None:
            self._n, self._last = entry.n, entry.hash
        if torn:
            self.add("recovered", bytes=torn)

    def add(self, event: str, **facts: Fact) -> None:
        """Append one entry and wait until the disk has it.

        Raises:
            OSError: it could not be written; the log is as it was before.
        """
        entry = Entry.after(self._n, self._last, event, facts)
        with open(self.path, "ab", buffering=0, opener=_private) as file:
            before = file.seek(0, os.SEEK_END)
            line = (entry.line + "\n").encode()
            try:
                written = file.write(line)
                if written != len(line):
                    raise OSError(28, "No space left on device", str(self.path))
                os.fsync(file.fileno())
            except OSError as e:
                file.truncate(before)
                raise OSError(e.errno, e.strerror, str(self.path)) from None
        self._n, self._last = entry.n, entry.hash


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _cut_torn_line(path: Path) -> int:
    """Remove bytes after the last newline: an entry whose writing never ended, and on which nothing was
    done."""
    if not path.exists():
        return 0
    with path.open("rb+") as file:
        data = file.read()
        whole = data.rfind(b"\n") + 1
        file.truncate(whole)
        return len(data) - whole


def _last_entry(path: Path) -> Entry | None:
    if not path.exists() or path.stat().st_size == 0:
        return None
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        line = file.read().rstrip(b"\n").rsplit(b"\n", 1)[-1]
    try:
        entry = Entry.parse(line)
        if entry.hash != entry.expected_hash:
            raise ValueError
    except ValueError:
        raise DataError(f"{path}: its last line was changed; look with: audit verify") from None
    return entry


def read_entries(path: Path) -> Iterator[Entry]:
    """The entries as they are, unchecked. Raises DataError at a line that is none."""
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            try:
                entry = Entry.parse(line)
            except ValueError:
                raise DataError(f"{path}, line {number}: not an entry of the audit log") from None
            yield entry


def verify(path: Path) -> tuple[int, str]:
    """Check the whole chain; returns the number of entries and the hash of the last.

    Raises:
        DataError: names the first line that was changed, removed or inserted.
    """
    n, last = 0, GENESIS
    for number, entry in enumerate(read_entries(path), start=1):
        if not _is_whole(entry):
            raise DataError(f"{path}, line {number}: was changed: its hash is not that of its contents")
        if entry.previous != last or entry.n != n + 1:
            raise DataError(
                f"{path}, line {number}: does not follow the line before: lines were removed, inserted or "
                "reordered"
            )
        n, last = entry.n, entry.hash
    return n, last


def _is_whole(entry: Entry) -> bool:
    try:
        return entry.hash == entry.expected_hash
    except ValueError:  # NaN, which no entry of ours holds
        return False
