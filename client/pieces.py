"""Pieces of patients' pixels that a cut-off command left: every start clears them."""

import shutil
import time
from contextlib import suppress

from client.settings import SiteFolder

ABANDONED_S = 3600.0
"""A piece that nobody has written to for so long belongs to nobody: an ingest writes all the time."""


def clear_pieces(folder: SiteFolder, age_s: float = ABANDONED_S) -> None:
    """Remove what cut-off ingests and evaluations left of patients' pixels: nobody goes on with it."""
    for piece in folder.cohorts.glob(".*"):
        with suppress(FileNotFoundError):  # whoever writes it has just renamed it into place
            touched = max(path.stat().st_mtime for path in (piece, *piece.rglob("*")))
            if piece.is_dir() and time.time() - touched >= age_s:
                shutil.rmtree(piece, ignore_errors=True)
