"""Labels: a table keyed by patient, study or accession, one column a finding; 0, 1, or empty for unknown."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.imaging.outcome import Reason, Tally
from client.imaging.tables import Table, parse_number, read_table, require_key
from common.errors import DataError
from common.plan import About
from common.text import printable

Known = NDArray[np.float32]
KEYS = ("study", "accession", "patient")
"""What a row may be about, the narrowest first: a table's first of these is its key."""
ANYBODY = ""
"""The patient of a row that names none."""
SHOWN = 20


@dataclass(frozen=True)
class Labels:
    """What is known, by patient ID, study UID or accession number."""

    path: Path
    key: str  # one of KEYS
    values: dict[tuple[str, str], Known]  # (patient or ANYBODY, key) -> (K,) 0, 1 or NaN each

    def known(self) -> set[str]:
        """Keys with a known label for at least one finding."""
        return {key for (_, key), values in self.values.items() if not np.isnan(values).all()}

    def owners(self) -> dict[str, set[str]]:
        """Key -> the patients whose it is; without those that may be anybody's."""
        if self.key == "patient":
            return {}
        named: dict[str, set[str]] = defaultdict(set)
        for owner, key in self.values:
            named[key].add(owner)
        return {key: owners for key, owners in named.items() if ANYBODY not in owners}

    def of(self, patient: str, without: Set[str] = frozenset()) -> dict[str, Known]:
        """Key -> what is known, of those that may be about this patient."""
        return {
            key: values
            for owner in (ANYBODY, patient)
            for key, values in self._by_owner.get(owner, {}).items()
            if key not in without
        }

    @cached_property
    def _by_owner(self) -> dict[str, dict[str, Known]]:
        by_owner: dict[str, dict[str, Known]] = defaultdict(dict)
        for (owner, key), values in self.values.items():
            if not np.isnan(values).all():
                by_owner[owner][key] = values
        return by_owner

    def names_owner(self, key: str) -> bool:
        """Whether the table says whose it is."""
        return (ANYBODY, key) not in self.values


def read_labels(path: Path, findings: tuple[str, ...], about: About = "patient") -> Labels:
    """The labels of the plan's findings.

    Args:
        about: the plan's input.label; tables of a study's or an accession's labels serve both.

    Raises:
        DataError: unreadable, a column is missing, a label is odd, rows about the same contradict each
        other (all are listed), or labels are of patients and the plan learns those of visits.
    """
    table = read_table(path, findings)
    key = _key_of(table, about)
    values: dict[tuple[str, str], Known] = {}
    seen: dict[tuple[str, str], list[int]] = defaultdict(list)
    conflicts: dict[tuple[str, str], None] = {}
    for number, row in table.rows:
        where = table.where(number)
        known = np.array([parse_label(row[f], where) for f in findings], dtype=np.float32)
        subject = (
            ANYBODY if key == "patient" else row.get("patient", ANYBODY),
            require_key(row[key], key, where),
        )
        seen[subject].append(number)
        if not np.array_equal(values.setdefault(subject, known), known, equal_nan=True):
            conflicts[subject] = None
    for owner, name in values:  # a row without a patient is about whoever has the key
        anybody = (ANYBODY, name)
        if anybody in values and not np.array_equal(values[anybody], values[owner, name], equal_nan=True):
            conflicts[anybody] = None
            seen[anybody] = sorted({*seen[anybody], *seen[owner, name]})
    if conflicts:
        raise DataError(
            f"{path}: rows about the same {key} have different labels: "
            f"{_listed([_rows(seen[k]) for k in conflicts])}"
        )
    return Labels(path, key, values)


def _key_of(table: Table, about: About) -> str:
    """The narrowest of KEYS that the table has. Raises DataError if it has none, or none of a visit."""
    key = next((k for k in KEYS if k in table.columns), None)
    if key is None:
        columns = ", ".join(printable(c, 40) for c in table.columns[:20]) or "no row"
        raise DataError(
            f"{table.path}: a column 'patient', 'study' or 'accession' is missing; found {columns}"
        )
    if about == "visit" and key == "patient":
        raise DataError(
            f"{table.path}: found labels of patients, the plan learns those of visits (input.label visit): "
            "expected a column 'study' or 'accession'"
        )
    return key


def parse_label(text: str, where: str) -> float:
    """0, 1, or NaN for unknown. Raises DataError, naming `where`, for anything else."""
    if not text:
        return float("nan")
    try:
        value = parse_number(text, where)
    except DataError:
        value = -1.0
    if value not in (0.0, 1.0):
        raise DataError(f"{where}: found the label {printable(text, 40)!r}, expected 0, 1 or nothing")
    return value


def _rows(numbers: list[int]) -> str:
    return "rows " + " and ".join(map(str, numbers))


def _listed(texts: list[str]) -> str:
    return ", ".join(texts[:SHOWN]) + (f" and {len(texts) - SHOWN} more" if len(texts) > SHOWN else "")


Forgotten = Callable[[str, str, str], bool]
"""Takes a label's patient (or ANYBODY), what it is about (one of KEYS) and which: whether they asked to be
left out."""


def nobody(_owner: str, _kind: str, _value: str) -> bool:
    """Where nobody asked to be left out."""
    return False


def require_images(
    labels: Labels,
    seen: Set[tuple[str, str]],
    unusable: Iterable[str],
    tally: Tally,
    is_forgotten: Forgotten = nobody,
) -> None:
    """Count what is labelled and has no usable image.

    Args:
        seen: (patient, key) of each image.
        unusable: the key of each file that is no image for the plan; empty where it could be anybody's.
        is_forgotten: of whom images are not expected.

    Raises:
        DataError: there are more of them than files that nobody can read could explain, or an ID has lost its
        zeros.
    """
    keys = {key for _, key in seen}
    missing = {
        (owner, key)
        for owner, key in labels.values
        if not ((owner, key) in seen or (not owner and key in keys))
    }
    forgotten = {(owner, key) for owner, key in missing if is_forgotten(owner, labels.key, key)}
    tally.add(Reason.FORGOTTEN, len(forgotten))
    missing -= forgotten
    ghosts = sorted({key for _, key in missing})
    if labels.key != "study":
        _require_zeros(labels, ghosts, keys)
    excuses = Counter(unusable)
    absent = [key for key in ghosts if key not in excuses]
    if len(absent) > excuses[""]:
        them = "studies" if labels.key == "study" else f"{labels.key}(s)"
        advice = "remove the rows or add the images"
        raise DataError(
            f"{labels.path}: {len(absent)} labelled {them} without any image: {_listed(absent)}; {advice}"
        )
    tally.add(Reason.NO_FRAMES, len(missing))


def _require_zeros(labels: Labels, ghosts: list[str], keys: Set[str]) -> None:
    """Raises DataError if a key that is missing is one of the images' but for zeros that a spreadsheet took
    or added."""
    bare = {_bare(key): key for key in keys}
    lost = [key for key in ghosts if _bare(key) in bare]
    if lost:
        raise DataError(
            f"{labels.path}: found the {labels.key}(s) {_listed([printable(k, 64) for k in lost])}, "
            "the images have "
            f"{printable(bare[_bare(lost[0])], 64)}; zeros were lost or added: format the column as text"
        )


def _bare(key: str) -> str:
    return key.removesuffix(".0").lstrip("0")
