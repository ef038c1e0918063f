"""`pneumofed client forget`: a patient leaves everything that a site keeps for learning, and does not come
back.

What stays is a tombstone: the patient's keyed pseudonym, which pull, receive and ingest obey.
"""

import json
import shutil
from collections.abc import Callable, Set
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from client.imaging.cohort import pseudonym, remove_patient
from client.pieces import clear_pieces
from client.settings import SiteFolder
from client.traces import keys_of, made_of, names_of, scrub
from common.credentials import require_private
from common.errors import ConfigError, DataError
from common.files import changing, listed, waiting_for, write_atomically


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
    unread: list[Path]  # there, and among the images: nobody knows whose they are
    lines: int  # of logs, deleted

    @property
    def nothing(self) -> bool:
        """Whether nobody of that ID was here: perhaps it was mistyped."""
        return not (self.sequences or self.files or self.elsewhere or self.lines or self.named)


def forget_patient(folder: SiteFolder, patient: str, waits: Callable[[], None] = lambda: None) -> Forgotten:
    """Remove a patient from every cohort, with the pages that show them, from images that were fetched or
    were about to be, from pieces of ingests that were cut off, and from the site's logs; for ever. Where an
    ingest is going on, `waits` is called, and what it writes is looked through when it ends.

    The audit log and the ledger hold no patient by ID or UID, and stay. Backups and trained models are not
    ours to change.

    Raises:
        DataError: `patient` is empty, as a variable of a shell that is not set; or the hospital's own images
        cannot be looked through.
    """
    if not (patient := patient.strip()):
        raise DataError("found an empty Patient ID, expected that of the patient who is to be forgotten")
    hidden_of = partial(pseudonym, key=Tombstones.read(folder).key)
    hidden = hidden_of(patient)
    _keep(folder, {hidden})
    at_once = [remove_patient(cohort, hidden) for cohort in _cohorts(folder)]  # nobody trains on them while …
    with waiting_for(folder.cohorts_lock, waits):  # … an ingest goes on, which may write the images yet
        clear_pieces(folder, age_s=0.0)
        removed = [*at_once, *(remove_patient(cohort, hidden) for cohort in _cohorts(folder))]
        return _forget(folder, patient, hidden_of, removed)


def _forget(
    folder: SiteFolder, patient: str, hidden_of: Callable[[str], str], removed: list[tuple[int, int]]
) -> Forgotten:
    """What is left of a patient, of whom so many (sequences, frames) were removed from cohorts."""
    for page in listed(folder.cohorts):
        if page.suffix == ".html":
            page.unlink()
    fetched, elsewhere, unread, unknown = _images(folder, patient)
    _keep(folder, {hidden_of(f"{k} {v}") for path in (*fetched, *elsewhere) for k, v in keys_of(path)})
    lines = scrub(folder.logs, {patient, *names_of([*fetched, *elsewhere])})
    _remove(folder, fetched)
    touched = [counts for counts in removed if counts[0]]
    n_sequences, n_frames = sum(s for s, _ in touched), sum(f for _, f in touched)
    if unknown:
        raise DataError(
            f"what this site keeps of the patient is removed; what else there is is not known: {unknown}"
        )
    named, more = made_of(folder, patient)
    unread = [*unread, *more]
    return Forgotten(n_sequences, n_frames, len(touched), fetched, elsewhere, named, unread, lines)


def _images(folder: SiteFolder, patient: str) -> tuple[list[Path], list[Path], list[Path], str]:
    """Files of the patient's images: the site's own, those elsewhere; those that may be anybody's; and why
    those elsewhere are not known."""
    from client.imaging.sources import files_of_patient

    places = [place for place in (folder.images, folder.arrived, folder.once) if place.is_dir()]
    found = [files_of_patient(place, patient, hidden=True) for place in places]
    fetched = [path for files, _ in found for path in files]
    unread = [path for _, files in found for path in files]
    data = folder.settings().data
    try:
        elsewhere, more = files_of_patient(Path(data.dicom).expanduser(), patient) if data.dicom else ([], [])
    except DataError as e:  # what is the site's own goes all the same
        return fetched, [], unread, str(e)
    return fetched, elsewhere, [*unread, *more], ""


def _remove(folder: SiteFolder, fetched: list[Path]) -> None:
    for path in fetched:
        path.unlink(missing_ok=True)
        for place in (folder.arrived, folder.once):  # the note beside it names the study
            if path.is_relative_to(place):
                shutil.rmtree(place / path.relative_to(place).parts[0], ignore_errors=True)


def _keep(folder: SiteFolder, more: Set[str]) -> None:
    """Pseudonyms into the list of tombstones. Raises OSError."""
    with changing(folder.forgotten):
        all_of_them = sorted(Tombstones.read(folder).pseudonyms | more)
        write_atomically(folder.forgotten, json.dumps(all_of_them).encode())
        folder.forgotten.chmod(0o600)


def _cohorts(folder: SiteFolder) -> list[Path]:
    return [place for place in listed(folder.cohorts) if (place / "cohort.json").is_file()]
