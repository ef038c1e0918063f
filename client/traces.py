"""Where a site's folder speaks of a patient: in logs, in files' own headers, in what other commands made."""

import codecs
import contextlib
import errno
import html
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from markupsafe import escape
from pydicom import dcmread

from client.imaging.facts.text import text
from client.imaging.tables import read_table
from client.settings import SiteFolder
from common.errors import DataError
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


def made_of(folder: SiteFolder, patient: str) -> tuple[list[Path], list[Path]]:
    """Files of other commands in the site's folder, predictions, explanations, tables, that name a patient or
    are of one, with the pictures beside an explanation; and those that could not be looked into."""
    named, unread = set[Path](), list[Path]()
    for path in _of_others(folder):
        try:
            if _is_of(path, patient):
                named |= {path, *(path.parent.iterdir() if path.name == "explanation.json" else ())}
        except OSError:
            unread.append(path)
    return sorted(path for path in named if path.is_file()), unread


def _of_others(folder: SiteFolder) -> Iterator[Path]:
    data = folder.settings().data
    ours = [folder.images, folder.arrived, folder.once, folder.cohorts, folder.logs, folder.plans]
    ours += [Path(data.dicom).expanduser().resolve()] if data.dicom else []
    for path in sorted(folder.path.rglob("*")):
        if path.is_file() and not any(path.resolve().is_relative_to(place.resolve()) for place in ours):
            yield path


def _is_of(path: Path, patient: str) -> bool:
    """Whether a file tells of the patient by ID, or is an image of theirs. Raises OSError if it cannot be
    looked into."""
    with path.open("rb") as file:
        beginning = file.read(MAGIC)
    if path.suffix.lower() == ".dcm" or beginning[128:132] == b"DICM":
        if not (told := _header(path)):
            raise OSError(errno.EIO, "not readable")
        return told["PatientID"] == patient
    if beginning[:4] == b"PAR1":
        return any(patient in row.values() for _, row in _rows(path))
    marked = beginning.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if b"\0" in beginning and not marked:
        return False  # no text
    if path.stat().st_size > MOST_SEARCHED:
        raise OSError(errno.EFBIG, "too long to be searched")
    data = path.read_bytes()
    said = data.decode("utf-16", "replace") if marked else data.decode("utf-8", "surrogateescape")
    return bool(re.search(_any_of(_ways_of_writing(patient)), said))


MAGIC, MOST_SEARCHED = 4096, 256 * 2**20
"""Bytes by which a kind of file is known, and of the longest that is searched."""


def _rows(path: Path) -> Sequence[tuple[int, dict[str, str]]]:
    try:
        return read_table(path).rows
    except DataError:
        raise OSError(errno.EIO, "not readable") from None


def _ways_of_writing(patient: str) -> set[str]:
    """As JSON, pages and tables write an ID; in another set of characters than they declare, too."""
    plain = {patient, json.dumps(patient)[1:-1], json.dumps(patient, ensure_ascii=False)[1:-1]}
    plain |= {str(escape(patient)), html.escape(patient), html.escape(patient, quote=False)}
    plain.add(patient.replace('"', '""'))
    with contextlib.suppress(UnicodeEncodeError):
        plain.add(patient.encode("latin-1").decode("utf-8", "surrogateescape"))
    return plain


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
