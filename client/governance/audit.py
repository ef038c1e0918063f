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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common.errors import DataError
from common.plan import canonical_json

GENESIS = "0" * 64


class AuditLog:
    """Appends to one file. Use one object a file: the agent's lock on its folder sees to that."""

    def __init__(self, path: Path) -> None:
        """Open or make the log; what a crash left of a last line is cut off, and that is written down.

        Raises:
            DataError: the last whole line is not one of ours.
        """
        self._path = path
        self._n, self._last = 0, GENESIS
        torn = _cut_torn_line(path)
        entry = _last_entry(path)
        if entry is not None:
            self._n, self._last = entry["n"], entry["hash"]
        if torn:
            self.add("recovered", bytes=torn)

    def add(self, event: str, **about: Any) -> None:
        """Append one entry and wait until the disk has it.

        Raises:
            OSError: it could not be written; the log is as it was before.
        """
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        entry = {"n": self._n + 1, "time": now, "event": event, **about, "previous": self._last}
        entry["hash"] = _hash(entry)
        with open(self._path, "ab", buffering=0, opener=_private) as file:
            before = file.seek(0, os.SEEK_END)
            line = (json.dumps(entry, ensure_ascii=False) + "\n").encode()
            try:
                written = file.write(line)
                if written != len(line):
                    raise OSError(28, "No space left on device", str(self._path))
                os.fsync(file.fileno())
            except OSError as e:
                file.truncate(before)
                raise OSError(e.errno, e.strerror, str(self._path)) from None
        self._n, self._last = entry["n"], str(entry["hash"])


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _hash(entry: dict[str, Any]) -> str:
    return hashlib.sha256(
        canonical_json({k: v for k, v in entry.items() if k != "hash"}).encode()
    ).hexdigest()


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


def _last_entry(path: Path) -> dict[str, Any] | None:
    if not path.exists() or path.stat().st_size == 0:
        return None
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 65536))
        line = file.read().rstrip(b"\n").rsplit(b"\n", 1)[-1]
    try:
        entry: dict[str, Any] = json.loads(line)
        if entry["hash"] != _hash(entry):
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise DataError(
            f"{path}: its last line was changed; look with: pneumofed client audit verify"
        ) from None
    return entry


def read_entries(path: Path) -> Iterator[dict[str, Any]]:
    """The entries as they are, unchecked. Raises DataError at a line that is not JSON."""
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            try:
                entry = json.loads(line)
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
        if not isinstance(entry, dict) or entry.get("hash") != _hash(entry):
            raise DataError(f"{path}, line {number}: was changed: its hash is not that of its contents")
        if entry.get("previous") != last or entry.get("n") != n + 1:
            raise DataError(
                f"{path}, line {number}: does not follow the line before: lines were removed, inserted or "
                "reordered"
            )
        n, last = entry["n"], entry["hash"]
    return n, last
