"""Whatever patients' images and labels come from."""

import hashlib
from pathlib import Path
from typing import Protocol

from client.imaging.sequence import Collection
from common.plan import Input


class Source(Protocol):
    """Something that holds patients' images and labels."""

    def files(self) -> list[Path]:
        """Every file whose change makes a cohort stale."""
        ...

    def read(self, contract: Input, findings: tuple[str, ...]) -> Collection:
        """All sequences with a known label, in an order of their own; pixels are not read yet."""
        ...


def fingerprint(source: Source) -> str:
    """SHA-256 over names, sizes and times of change: cheap, and different when any file is."""
    digest = hashlib.sha256(type(source).__name__.encode())
    for path in source.files():
        try:
            stat = path.stat()
        except OSError:  # a link to nothing: reading it will say so
            digest.update(f"{path}\n".encode(errors="surrogateescape"))
            continue
        digest.update(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()
