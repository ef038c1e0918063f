"""What others sent, made fit for a terminal, a log and a page: printable, in one line, and short."""


def printable(text: str, limit: int = 200) -> str:
    """`text` with every character that is not plainly visible as its escape, at most `limit` characters long.

    Control characters and terminal escapes, line breaks, zero-width and bidirectional marks, unassigned and
    private code points are what str.isprintable knows; what is cut off is marked with an ellipsis.
    """
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"
