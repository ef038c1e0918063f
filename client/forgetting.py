"""`pneumofed client forget`: a patient leaves everything that a site keeps for learning, and does not come
back.

What stays is a tombstone: the patient's keyed pseudonym, which pull, receive and ingest obey.
"""

import contextlib
import json
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread

from client.imaging.cohort import pseudonym, remove_patient
from client.imaging.facts.text import text
from client.pieces import clear_pieces
from client.settings import SiteFolder
from common.credentials import require_private
from common.errors import ConfigError, DataError
from common.files import write_atomically

UIDS = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "AccessionNumber")


@dataclass(frozen=True)
class Tombstones:
    """Who asked to be left out."""

    key: bytes
    pseudonyms: frozenset[str]

    @classmethod
    def read(cls, folder: SiteFolder) -> "Tombstones":
        """Raises ConfigError if the list cannot be read, or others can read the site's secret."""
        require_private(folder.secret)
        key = folder.secret.read_bytes()
        if not folder.forgotten.is_file():
            return cls(key, frozenset())
        try:
            return cls(key, frozenset(json.loads(folder.forgotten.read_text(encoding="utf-8"))))
        except (OSError, ValueError, TypeError):
            raise ConfigError(
                f"{folder.forgotten}: not readable: who asked to be left out is not known; restore it"
            ) from None

    def holds(self, patient: str) -> bool:
        """Whether there is one for this Patient ID."""
        return bool(self.pseudonyms) and pseudonym(patient.strip(), self.key) in self.pseudonyms

    def is_about(self, owner: str, kind: str, value: str) -> bool:
        """Whether a label of such a patient is about one of them: by its owner, or by the "study" or
        "accession" that was theirs."""
        if kind == "patient":
            return self.holds(value)
        return self.holds(owner) or pseudonym(f"{kind} {value}", self.key) in self.pseudonyms


@dataclass(frozen=True)
class Forgotten:
    """What was removed of one patient."""

    sequences: int
    frames: int
    cohorts: int
    files: list[Path]  # in the site's own folder, deleted
    elsewhere: list[Path]  # in a folder that is not ours: still there
    named: list[Path]  # in the site's folder, made by other commands: they name or show the patient still
    lines: int  # of logs, deleted

    @property
    def nothing(self) -> bool:
        """Whether nobody of that ID was here: perhaps it was mistyped."""
        return not (self.sequences or self.files or self.elsewhere or self.lines or self.named)


def forget_patient(folder: SiteFolder, patient: str) -> Forgotten:
    """Remove a patient from every cohort, with the pages that show them, from images that were fetched or
    were about to be, from pieces of ingests that were cut off, and from the site's logs; for ever.

    The audit log and the ledger hold no patient by ID or UID, and stay. Backups and trained models are not
    ours to change.

    Raises:
        DataError: `patient` is empty, as a variable of a shell that is not set.
    """
    from client.imaging.sources import files_of_patient

    if not (patient := patient.strip()):
        raise DataError("found an empty Patient ID, expected that of the patient who is to be forgotten")
    tombstones = Tombstones.read(folder)
    hidden = pseudonym(patient, tombstones.key)
    write_atomically(folder.forgotten, json.dumps(sorted(tombstones.pseudonyms | {hidden})).encode())
    folder.forgotten.chmod(0o600)
    clear_pieces(folder, age_s=0.0)
    removed = [remove_patient(cohort, hidden) for cohort in _cohorts(folder)]
    for page in folder.cohorts.glob("*.html"):
        page.unlink()
    fetched = [
        path
        for place in (folder.images, folder.arrived, folder.once)
        if place.is_dir()
        for path in files_of_patient(place, patient, hidden=True)
    ]
    data = folder.settings().data
    elsewhere = files_of_patient(Path(data.dicom).expanduser(), patient) if data.dicom else []
    theirs = [_keys(path) for path in (*fetched, *elsewhere)]
    hidden_keys = {pseudonym(f"{k} {v}", tombstones.key) for keys in theirs for k, v in keys.items() if v}
    before = Tombstones.read(folder).pseudonyms
    write_atomically(folder.forgotten, json.dumps(sorted(before | hidden_keys)).encode())
    folder.forgotten.chmod(0o600)
    lines = _scrub(folder.logs, {patient, *_names([*fetched, *elsewhere])})
    for path in fetched:
        path.unlink(missing_ok=True)
        for place in (folder.arrived, folder.once):  # the note beside it names the study
            if path.is_relative_to(place):
                shutil.rmtree(place / path.relative_to(place).parts[0], ignore_errors=True)
    touched = [counts for counts in removed if counts[0]]
    n_sequences, n_frames = sum(s for s, _ in touched), sum(f for _, f in touched)
    named = [path for path in _of_others(folder) if _is_of(path, patient)]
    return Forgotten(n_sequences, n_frames, len(touched), fetched, elsewhere, named, lines)


def _cohorts(folder: SiteFolder) -> list[Path]:
    return sorted(path.parent for path in folder.cohorts.glob("*/cohort.json"))


def _keys(path: Path) -> dict[str, str]:
    """What a label may be about, of one file."""
    with contextlib.suppress(Exception):  # what cannot be read has none
        ds = dcmread(path, stop_before_pixels=True, specific_tags=list(UIDS), force=True)
        return {"study": text(ds, "StudyInstanceUID"), "accession": text(ds, "AccessionNumber")}
    return {}


def _of_others(folder: SiteFolder) -> Iterator[Path]:
    """Files in the site's folder that are not looked after here: predictions, explanations, tables."""
    data = folder.settings().data
    ours = [folder.images, folder.arrived, folder.once, folder.cohorts, folder.logs, folder.plans]
    ours += [Path(data.dicom).expanduser().resolve()] if data.dicom else []
    for path in sorted(folder.path.rglob("*")):
        if path.is_file() and not any(path.resolve().is_relative_to(place.resolve()) for place in ours):
            yield path


def _is_of(path: Path, patient: str) -> bool:
    """Whether a file tells of the patient by ID, or is an image of theirs."""
    if path.suffix.lower() == ".dcm":
        with contextlib.suppress(Exception):
            ds = dcmread(path, stop_before_pixels=True, specific_tags=["PatientID"], force=True)
            return text(ds, "PatientID") == patient
        return False
    if path.suffix.lower() not in TOLD_IN or path.stat().st_size > MOST_SEARCHED:
        return False
    told = path.read_bytes()
    return bool(re.search(rb"(?<![A-Za-z0-9])" + re.escape(patient.encode()) + rb"(?![A-Za-z0-9])", told))


TOLD_IN, MOST_SEARCHED = (".csv", ".json", ".html", ".txt", ".md", ".xml", ".tsv"), 256 * 2**20
"""Kinds of files that are searched, and their size."""


def _names(paths: Iterable[Path]) -> set[str]:
    """By which logs may speak of these files: their own, and their UIDs."""
    names: set[str] = set()
    for path in paths:
        names.add(str(path))
        with contextlib.suppress(Exception):  # what cannot be read stands in the log by its path
            ds = dcmread(path, stop_before_pixels=True, specific_tags=list(UIDS), force=True)
            names |= {text(ds, keyword) for keyword in UIDS}
    return names - {""}


def _scrub(logs: Path, names: set[str]) -> int:
    """Take every line out of the logs that holds one of `names` as a word of its own; how many."""
    gone = 0
    any_of_them = re.compile(rf"(?<![A-Za-z0-9])(?:{'|'.join(map(re.escape, sorted(names)))})(?![A-Za-z0-9])")
    for path in [
        *logs.glob("ingest.log*"),
        *logs.glob("pull.log*"),
    ]:  # the others name no patient
        lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines(keepends=True)
        kept = [line for line in lines if not any_of_them.search(_said(line))]
        if len(kept) < len(lines):
            write_atomically(path, "".join(kept).encode(errors="surrogateescape"))
            gone += len(lines) - len(kept)
    return gone


def _said(line: str) -> str:
    """What a line of a log tells, with escapes (JSON's undone, those of common/text.py) and without: the last
    letter of one may stand before a name."""
    try:
        told = "\n".join(map(str, json.loads(line).values()))
    except (ValueError, AttributeError):
        told = line
    return f"{told}\n{_ESCAPE.sub(' ', told)}"


_ESCAPE = re.compile(r"\\(?:x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8}|[a-z\\])")
