"""What others sent, made fit for a terminal, a log and a page: printable, in one line, and short."""

import shlex
from pathlib import Path


def quoted(path: Path | str) -> str:
    """As a path stands in a command that is printed to be typed: a folder's name may have spaces."""
    return shlex.quote(str(path))


def cannot_be_read(path: Path | str, e: OSError) -> str:
    """One line on a file that is there, and what to do where it is another account's."""
    advice = "; run this as the account that the service runs as, or give the file to it"
    why = e.strerror or type(e).__name__
    return f"{path}: cannot be read: {why}{advice if isinstance(e, PermissionError) else ''}"


def without_userinfo(url: str) -> str:
    """A URL as it is shown: a name and a password before its host are nobody's who reads a log. They may hold
    any letter: all before the last @ goes."""
    scheme, slashes, _ = url.partition("://")
    return f"{scheme}{slashes}{url.rpartition('@')[2]}" if slashes and "@" in url else url.rpartition("@")[2]


def printable(text: str, limit: int = 200) -> str:
    """`text` with every character that is not plainly visible as its escape, at most `limit` characters long.

    Control characters and terminal escapes, line breaks, zero-width and bidirectional marks, unassigned and
    private code points are what str.isprintable knows; what is cut off is marked with an ellipsis.
    """
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"
