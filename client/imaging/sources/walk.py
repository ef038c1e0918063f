"""The files below a folder."""

import os
from pathlib import Path

from common.errors import DataError

OF_THE_SYSTEM = frozenset({"lost+found", "System Volume Information", "$RECYCLE.BIN"})
"""Folders of a disk that only its administrator may list, and that hold no images."""


def walk(root: Path, hidden: bool = False) -> list[Path]:
    """Every file below `root`, also in folders that it links to, sorted; those that are or lie in `hidden`
    ones left out otherwise. Raises DataError if `root` is no folder, or one of them cannot be listed."""
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected DICOM files and labels.csv")

    def refuse(error: OSError) -> None:
        what = f"{error.filename}: cannot be listed: {error.strerror}"
        raise DataError(f"{what}; what is in it would be missing")

    found: list[Path] = []
    walked: set[tuple[int, int]] = set()
    for folder, folders, files in os.walk(root, onerror=refuse, followlinks=True):
        state = os.stat(folder)
        if (state.st_dev, state.st_ino) in walked:  # a link to a folder above, or to one that was there
            folders.clear()
            continue
        walked.add((state.st_dev, state.st_ino))
        folders[:] = [name for name in folders if name not in OF_THE_SYSTEM]
        if not hidden:
            folders[:] = [name for name in folders if not name.startswith(".")]
            files = [name for name in files if not name.startswith(".")]
        found += (path for name in files if not _is_special(path := Path(folder, name)))
    return sorted(found)


def _is_special(path: Path) -> bool:
    """A pipe, say, which nobody can read to its end. A link to nothing is a file that cannot be read."""
    return path.exists() and not path.is_file()


def is_beside(path: Path) -> bool:
    """Tables, notes and directories of the files, which are not counted as files that could not be read."""
    return (
        path.suffix.lower() in (".csv", ".parquet", ".json", ".md", ".txt") or path.name.upper() == "DICOMDIR"
    )
