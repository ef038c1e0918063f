"""Where a site's folder speaks of a patient: in logs, in files' own headers, in what other commands made."""

import contextlib
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from pydicom import dcmread

from client.imaging.facts.text import text
from client.settings import SiteFolder
from common.files import listed, write_atomically

UIDS = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "AccessionNumber")


def keys_of(path: Path) -> list[tuple[str, str]]:
    """What a label of one DICOM file may be about: its study, its accession number."""
    told = _header(path)
    kinds = (("study", "StudyInstanceUID"), ("accession", "AccessionNumber"))
    return [(kind, told[keyword]) for kind, keyword in kinds if told.get(keyword)]


def _header(path: Path) -> dict[str, str]:
    """UIDS of one DICOM file; none of what cannot be read."""
    with contextlib.suppress(Exception):
        ds = dcmread(path, stop_before_pixels=True, specific_tags=list(UIDS), force=True)
        return {keyword: text(ds, keyword) for keyword in UIDS}
    return {}


def _any_of(names: Iterable[str]) -> str:
    """A pattern: one of these as a word of its own."""
    return rf"(?<![A-Za-z0-9])(?:{'|'.join(map(re.escape, sorted(names)))})(?![A-Za-z0-9])"


def made_of(folder: SiteFolder, patient: str) -> list[Path]:
    """Files of other commands in the site's folder, predictions, explanations, tables, that name a patient or
    are of one."""
    return [path for path in _of_others(folder) if _is_of(path, patient)]


def _of_others(folder: SiteFolder) -> Iterator[Path]:
    data = folder.settings().data
    ours = [folder.images, folder.arrived, folder.once, folder.cohorts, folder.logs, folder.plans]
    ours += [Path(data.dicom).expanduser().resolve()] if data.dicom else []
    for path in sorted(folder.path.rglob("*")):
        if path.is_file() and not any(path.resolve().is_relative_to(place.resolve()) for place in ours):
            yield path


def _is_of(path: Path, patient: str) -> bool:
    """Whether a file tells of the patient by ID, or is an image of theirs."""
    if path.suffix.lower() == ".dcm":
        return _header(path).get("PatientID") == patient
    if path.suffix.lower() not in TOLD_IN or path.stat().st_size > MOST_SEARCHED:
        return False
    return bool(re.search(_any_of([patient]).encode(), path.read_bytes()))


TOLD_IN, MOST_SEARCHED = (".csv", ".json", ".html", ".txt", ".md", ".xml", ".tsv"), 256 * 2**20
"""Kinds of files that are searched, and their size."""


def names_of(paths: Iterable[Path]) -> set[str]:
    """By which logs may speak of these files: their own, and their UIDs."""
    return {name for path in paths for name in (str(path), *_header(path).values())} - {""}


def scrub(logs: Path, names: set[str]) -> int:
    """Take every line out of the logs that holds one of `names` as a word of its own; how many."""
    gone = 0
    any_of_them = re.compile(_any_of(names))
    of_patients = ("ingest.log", "pull.log")  # the others name no patient
    for path in (path for path in listed(logs) if path.name.startswith(of_patients)):
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
