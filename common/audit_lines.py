"""An audit log's entries as people and their monitoring read them: text, JSON lines, or CEF for a SIEM."""

import datetime
import json
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from common.audit import Entry, read_entries
from common.protocol import program
from common.text import printable

Format = Literal["text", "json", "cef"]
LONGEST = 4000
"""Characters of a CEF message: what syslog carries. What is longer says so; the JSON line has it whole."""
GRAVE = {"refused": 5, "abandoned": 4, "recovered": 7, "revoked": 6, "failed": 6}
"""CEF's severity, 0 to 10, of events that are not a 3."""


def lines(log: Path, form: Format, last: int = 0) -> Iterator[str]:
    """One line an entry of a log, of the `last` alone if it is not 0. Raises DataError at what is no
    entry."""
    show = {"text": _text, "json": lambda entry: entry.line, "cef": cef}[form]
    entries = read_entries(log)
    return map(show, deque(entries, last) if last else entries)


def _text(entry: Entry) -> str:
    facts = " ".join(f"{printable(name)}={json.dumps(value)}" for name, value in entry.facts.items())
    return f"{entry.n:>6} {printable(entry.time)} {printable(entry.event):<9} {facts}"


def cef(entry: Entry) -> str:
    """ArcSight's Common Event Format, version 0: a header parted by |, an extension of key=value."""
    header = "|".join(
        _in_header(part) for part in ("pneumofed", "pneumofed", program(), entry.event, entry.event)
    )
    said = json.dumps(dict(entry.facts), ensure_ascii=False)
    cut = said if len(said) <= LONGEST else f"{said[:LONGEST]} … cut, {len(said)} characters"
    when = int(datetime.datetime.fromisoformat(entry.time).timestamp() * 1000)
    known = {"rt": str(when), "externalId": str(entry.n), "fileHash": entry.hash, "msg": cut}
    by = entry.facts.get("by")
    known |= {"suser": by} if isinstance(by, str) else {}
    extension = " ".join(f"{key}={_in_extension(value)}" for key, value in known.items())
    return f"CEF:0|{header}|{GRAVE.get(entry.event, 3)}|{extension}"


def _in_header(text: str) -> str:
    return printable(text, 200).replace("\\", "\\\\").replace("|", "\\|")


def _in_extension(text: str) -> str:
    return printable(text, LONGEST + 100).replace("\\", "\\\\").replace("=", "\\=")
