"""Labels: a CSV with the column `patient` and one column a finding; 0, 1, or empty where nobody knows."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.imaging.outcome import Reason, Tally
from common.errors import DataError

Labels = NDArray[np.float32]

MEANING = {"0": 0.0, "0.0": 0.0, "1": 1.0, "1.0": 1.0, "": float("nan")}


def read_rows(path: Path, columns: Iterable[str]) -> list[dict[str, str]]:
    """The rows of a CSV that has at least `columns`.

    Raises:
        DataError: the file is missing, not a CSV, or lacks a column.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [c for c in columns if c not in (reader.fieldnames or ())]
            if missing:
                found = ", ".join(reader.fieldnames or ()) or "none"
                raise DataError(f"{path}: the column {missing[0]!r} is missing; found {found}")
            return [{k: (v or "").strip() for k, v in row.items() if k is not None} for row in reader]
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise DataError(f"{path}: not readable as CSV: {type(e).__name__}") from None


def parse_label(text: str, where: str) -> float:
    """0, 1, or NaN for unknown. Raises DataError, naming `where`, for anything else."""
    if text not in MEANING:
        raise DataError(f"{where}: found the label {text!r}, expected 0, 1 or nothing")
    return MEANING[text]


def read_labels(path: Path, findings: tuple[str, ...]) -> dict[str, Labels]:
    """Patient -> (K,) labels of the plan's findings.

    Raises:
        DataError: unreadable, a column is missing, a label is odd, or a patient has two rows that disagree.
    """
    labels: dict[str, Labels] = {}
    for number, row in enumerate(read_rows(path, ("patient", *findings)), start=2):
        where = f"{path}, row {number}"
        values = np.array([parse_label(row[f], where) for f in findings], dtype=np.float32)
        patient = row["patient"]
        if patient in labels and not np.array_equal(labels[patient], values, equal_nan=True):
            raise DataError(f"{where}: its patient has another row with other labels")
        labels[patient] = values
    return labels


def match(labels: Mapping[str, Labels], patients: Iterable[str], tally: Tally, unreadable: int, path: Path) -> set[str]:
    """Which of the images' `patients` have a known label; the others are counted.

    Raises:
        DataError: patients with labels have no image at all, and more of them than unreadable files could explain.
    """
    seen = set(patients)
    ghosts = sorted(labels.keys() - seen)
    if len(ghosts) > unreadable:
        shown = ", ".join(ghosts[:20]) + (f" and {len(ghosts) - 20} more" if len(ghosts) > 20 else "")
        raise DataError(f"{path}: {len(ghosts)} labelled patient(s) without any image: {shown}; remove the rows or add the images")
    tally.add(Reason.NO_FRAMES, len(ghosts))
    known = {p for p in seen if p in labels and not np.isnan(labels[p]).all()}
    tally.add(Reason.UNLABELLED, len(seen) - len(known))
    return known
