"""Labels: a CSV or parquet table keyed by patient, study or accession, one column a finding; 0, 1, or empty
for unknown."""

import csv
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from client.imaging.outcome import Reason, Tally
from common.errors import DataError

Known = NDArray[np.float32]
KEYS = ("study", "accession", "patient")
"""What a row may be about, the narrowest first: a table's first of these is its key."""
MEANING = {"0": 0.0, "0.0": 0.0, "1": 1.0, "1.0": 1.0, "": float("nan")}
SHOWN = 20


@dataclass(frozen=True)
class Labels:
    """What is known, by patient ID, study UID or accession number."""

    path: Path
    key: str  # one of KEYS
    values: dict[str, Known]  # (K,) 0, 1 or NaN each

    def known(self) -> set[str]:
        """Keys with a known label for at least one finding."""
        return {key for key, values in self.values.items() if not np.isnan(values).all()}


def read_rows(path: Path, columns: Iterable[str]) -> list[dict[str, str]]:
    """The rows of a CSV or parquet table that has at least `columns`.

    Raises:
        DataError: the file is missing, not such a table, or lacks a column.
    """
    try:
        rows, found = _read_parquet(path) if path.suffix == ".parquet" else _read_csv(path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError, csv.Error, pa.ArrowException) as e:
        raise DataError(f"{path}: not readable as {path.suffix[1:] or 'CSV'}: {type(e).__name__}") from None
    if missing := [c for c in columns if c not in found]:
        raise DataError(f"{path}: the column {missing[0]!r} is missing; found {', '.join(found) or 'none'}")
    return rows


def _read_csv(path: Path) -> tuple[list[dict[str, str]], list[str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        rows = [{k: (v or "").strip() for k, v in row.items() if k is not None} for row in reader]
        return rows, list(reader.fieldnames or ())


def _read_parquet(path: Path) -> tuple[list[dict[str, str]], list[str]]:
    table = parquet.read_table(path)
    return [
        {name: _text(value) for name, value in row.items()} for row in table.to_pylist()
    ], table.column_names


def _text(value: object) -> str:
    if value is None or value != value:  # NaN
        return ""
    return str(int(value)) if isinstance(value, bool) else str(value).strip()


def parse_label(text: str, where: str) -> float:
    """0, 1, or NaN for unknown. Raises DataError, naming `where`, for anything else."""
    if text not in MEANING:
        raise DataError(f"{where}: found the label {text!r}, expected 0, 1 or nothing")
    return MEANING[text]


def read_labels(path: Path, findings: tuple[str, ...]) -> Labels:
    """The labels of the plan's findings.

    Raises:
        DataError: unreadable, a column is missing, a label is odd, or rows about the same contradict each
        other (all are listed).
    """
    rows = read_rows(path, findings)
    key = next((k for k in KEYS if rows and k in rows[0]), None)
    if key is None:
        found = ", ".join(rows[0]) if rows else "no row"
        raise DataError(f"{path}: a column 'patient', 'study' or 'accession' is missing; found {found}")
    values: dict[str, Known] = {}
    seen: dict[str, list[int]] = defaultdict(list)
    conflicts: dict[str, None] = {}
    for number, row in enumerate(rows, start=2):
        known = np.array([parse_label(row[f], f"{path}, row {number}") for f in findings], dtype=np.float32)
        if not row[key]:
            raise DataError(f"{path}, row {number}: its {key} is empty")
        seen[row[key]].append(number)
        if not np.array_equal(values.setdefault(row[key], known), known, equal_nan=True):
            conflicts[row[key]] = None
    if conflicts:
        raise DataError(
            f"{path}: rows about the same {key} have different labels: "
            f"{_listed([_rows(seen[k]) for k in conflicts])}"
        )
    return Labels(path, key, values)


def _rows(numbers: list[int]) -> str:
    return "rows " + " and ".join(map(str, numbers))


def _listed(texts: list[str]) -> str:
    return ", ".join(texts[:SHOWN]) + (f" and {len(texts) - SHOWN} more" if len(texts) > SHOWN else "")


def require_images(labels: Labels, seen: set[str], tally: Tally) -> None:
    """Count what is labelled and was not `seen` among the images: unreadable files may have been theirs.

    Raises:
        DataError: there are more of them than unreadable files could explain.
    """
    ghosts = sorted(labels.values.keys() - seen)
    if len(ghosts) > tally.skipped_files:
        them = "studies" if labels.key == "study" else f"{labels.key}(s)"
        advice = "remove the rows or add the images"
        raise DataError(
            f"{labels.path}: {len(ghosts)} labelled {them} without any image: {_listed(ghosts)}; {advice}"
        )
    tally.add(Reason.NO_FRAMES, len(ghosts))
