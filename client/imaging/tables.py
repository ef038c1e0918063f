"""Tables as people write them: CSV with commas, semicolons or tabs, UTF-8 or UTF-16, from a spreadsheet; or
parquet.

What can be read in one way is read; what is ambiguous is refused with its row, never guessed.
"""

import codecs
import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from common.errors import DataError
from common.text import printable

Row = dict[str, str]
DELIMITERS = (",", ";", "\t")
NOTHING = {"", "nan", "none", "null", "n/a", "na", "#n/a", "<na>", "nat"}
"""What stands for an empty cell, in small letters."""


@dataclass(frozen=True)
class Table:
    """Rows of cells without padding; an empty cell is ""."""

    path: Path
    columns: Sequence[str]
    rows: Sequence[tuple[int, Row]]  # with the number of the row in the file, the header's is 1

    def require(self, columns: Iterable[str]) -> None:
        """Raises DataError if a column is missing."""
        if missing := [c for c in columns if c not in self.columns]:
            names = ", ".join(printable(c, 40) for c in self.columns[:20]) or "none"
            raise DataError(f"{self.path}: the column {missing[0]!r} is missing; found {names}")

    def where(self, number: int) -> str:
        return f"{self.path}, row {number}"


def read_table(path: Path, columns: Iterable[str] = ()) -> Table:
    """A CSV or parquet table that has at least `columns`.

    Raises:
        DataError: the file is missing, not such a table, lacks a column or has one twice, or a row has more
        or fewer cells
            than the header.
    """
    wanted = list(columns)
    try:
        table = _read_parquet(path) if path.suffix == ".parquet" else _read_csv(path, wanted)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, UnicodeError, csv.Error, pa.ArrowException) as e:
        form = path.suffix[1:] or "CSV"
        advice = "; save it as CSV in UTF-8" if isinstance(e, UnicodeError) else ""
        raise DataError(f"{path}: not readable as {form}: {type(e).__name__}{advice}") from None
    table.require(wanted)
    return table


def _read_csv(path: Path, wanted: list[str]) -> Table:
    text = _decode(path.read_bytes())
    if marked := re.match(r"sep=(.)\r?\n", text):  # Excel's own first line
        text = text[marked.end() :]
    delimiters = (marked[1],) if marked else DELIMITERS
    parsed = [lines for d in delimiters if (lines := _cells(text, d)) is not None]
    if not parsed:
        raise csv.Error
    fits = [lines for lines in parsed if lines and set(wanted) <= set(lines[0][1])]
    lines = fits[0] if fits else max(parsed, key=lambda lines: len(lines[0][1]) if lines else 0)
    if not lines:
        return Table(path, [], [])
    header = _checked(path, lines[0][1])
    return Table(path, header, [(n, _row(path, n, cells, header)) for n, cells in lines[1:]])


def _decode(data: bytes) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16")
    if b"\0" in data:
        raise UnicodeError
    return data.decode("utf-8-sig")


def _cells(text: str, delimiter: str) -> list[tuple[int, list[str]]] | None:
    """Lines that are not empty, with their numbers; None if quotes and this delimiter do not go together."""
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    numbered = ((n, [_plain(cell) for cell in cells]) for n, cells in enumerate(lines, start=1))
    try:
        return [(n, cells) for n, cells in numbered if any(cells)]
    except csv.Error:
        return None


def _plain(cell: str) -> str:
    """Without padding, and without the ="…" by which spreadsheets keep zeros; nothing where it stands for
    nothing."""
    cell = cell.strip()
    if kept := re.fullmatch(r'="?(.*?)"?', cell):
        cell = kept[1].strip()
    return "" if cell.lower() in NOTHING else cell


def _checked(path: Path, header: list[str]) -> list[str]:
    """Raises DataError if a column stands twice: which of them is meant?"""
    while header and not header[-1]:
        header = header[:-1]
    named = [name for name in header if name]
    if twice := next((name for name in named if named.count(name) > 1), None):
        raise DataError(f"{path}: the column {printable(twice, 40)!r} stands twice; remove or rename one")
    return header


def _row(path: Path, number: int, cells: list[str], header: list[str]) -> Row:
    if len(cells) < len(header) or any(cells[len(header) :]):
        raise DataError(
            f"{path}, row {number}: found {len(cells)} cells, the header has {len(header)}; is a "
            "text with a comma unquoted, or a cell missing?"
        )
    return dict(zip(header, cells, strict=False))


def _read_parquet(path: Path) -> Table:
    columns = _checked(path, list(parquet.read_schema(path).names))
    table = parquet.read_table(path)
    rows = [{name: _text(value) for name, value in row.items()} for row in table.to_pylist()]
    return Table(path, columns, list(enumerate(rows, start=2)))


def _text(value: object) -> str:
    if value is None or value != value:  # NaN
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # a column of numbers with a gap in it
    return str(int(value)) if isinstance(value, bool) else _plain(str(value))


def require_key(text: str, what: str, where: str) -> str:
    """A patient ID or another key. Raises DataError if there is none, or a spreadsheet has made a number of
    it."""
    if not text:
        raise DataError(f"{where}: its {what} is empty")
    if re.fullmatch(r"\d([.,]\d+)?[eE]\+\d+", text):
        raise DataError(
            f"{where}: the {what} is a number that a spreadsheet has rounded; format the column as text"
        )
    return text


def parse_number(text: str, where: str) -> float:
    """A number with a decimal point, or a comma that cannot be one of thousands. Raises DataError for
    anything else."""
    if re.fullmatch(r"[-+]?\d+,(\d{1,2}|\d{4,})", text):
        text = text.replace(",", ".")
    if not re.fullmatch(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?", text):
        raise DataError(f"{where}: found {printable(text, 40)!r}, expected a number")
    return float(text)


def parse_day(text: str, where: str) -> tuple[float, bool]:
    """Days, and whether they were told as a date (YYYY-MM-DD). Raises DataError for anything else: 03/04/2024
    is two days."""
    if re.fullmatch(r"\d{4}-\d\d-\d\d([T ]00:00(:00(\.0+)?)?)?", text):
        try:
            return float(date.fromisoformat(text[:10]).toordinal()), True
        except ValueError:
            pass
    elif "/" not in text and text.count(".") < 2 and text.count("-") < 2:
        return parse_number(text, where), False
    raise DataError(
        f"{where}: found {printable(text, 40)!r}, expected a number of days or a date as YYYY-MM-DD"
    )
