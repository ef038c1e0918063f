"""What this account may not look into: root, as whom tests may run, looks into everything."""

import os
from collections.abc import Mapping
from pathlib import Path


def deny_listing(monkeypatch, folder: Path) -> None:
    """From now on `folder` cannot be listed."""
    lists = os.listdir

    def listdir(path="."):
        if Path(path) == folder:
            raise PermissionError(13, "Permission denied", str(path))
        return lists(path)

    monkeypatch.setattr(os, "listdir", listdir)


def deny_reading(monkeypatch, file: Path) -> None:
    """From now on the bytes of `file` cannot be read."""
    reads = Path.read_bytes

    def read_bytes(self):
        if self == file:
            raise PermissionError(13, "Permission denied", str(self))
        return reads(self)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)


def deny_access(monkeypatch, denied: Mapping[Path, int]) -> None:
    """From now on os.access says that these files may not be used so (os.R_OK, os.W_OK)."""
    knows = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: not denied.get(path, 0) & mode and knows(path, mode))
