"""Where fetched images lie: a folder a study, a file an image. What is there is whole.

Names are hashes of the UIDs, which come from outside. A study that is being pulled has a hidden folder, which
no ingest looks into, and gets its place when all its images are there.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from pydicom import dcmread

from client.imaging.facts.text import text
from common.files import write_atomically

ARRIVING = ".arriving-"


class LeftOut(Exception):  # noqa: N818 - an outcome
    """The image's patient asked to be left out."""


@dataclass(frozen=True)
class Held:
    """What an image that is here says of itself; empty where it says nothing."""

    path: Path
    patient: str
    study: str
    accession: str
    modality: str


class Inbox:
    """The images that came from a PACS, below one folder that only its owner reads.

    Args:
        is_forgotten: whether the patient of this ID asked to be left out.
    """

    def __init__(self, folder: Path, is_forgotten: Callable[[str], bool] = lambda patient: False) -> None:
        self.folder, self.is_forgotten = folder, is_forgotten
        self.pushed = 0
        """Images that were pushed and kept, since this was opened."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def __contains__(self, study: str) -> bool:
        return (self.folder / _name(study)).is_dir()

    def holds(self, study: str, image: str) -> bool:
        """Whether an image is there, of a whole study or of one that is arriving."""
        return any((folder / _file(image)).is_file() for folder in self._folders(study))

    def put(self, study: str, image: str, file: bytes) -> None:
        """Keep one image of a study that is being pulled. Raises LeftOut."""
        self._require_remembered(file)
        write_atomically(self._arriving(study) / _file(image), file)

    def put_pushed(self, study: str, image: str, file: bytes) -> None:
        """Keep one image that was pushed: nobody says when its study is whole. Raises LeftOut, or another
        exception for what is no DICOM file, or would overwrite another patient's image."""
        patient = self._require_remembered(file)
        place = self.folder / _name(study) / _file(image)
        if place.is_file() and _patient_of(place.read_bytes()) != patient:
            raise FileExistsError("an image of another patient has this UID")
        write_atomically(place, file)
        self.pushed += 1

    def _require_remembered(self, file: bytes) -> str:
        """The file's Patient ID, unless nobody may keep it; "" where the file says none."""
        patient = _patient_of(file)
        if self.is_forgotten(patient):
            raise LeftOut
        return patient

    def patients(self, study: str) -> set[str]:
        """Whose a study's images are, by those that say it."""
        return {patient for path in self._files(study) if (patient := _held(path).patient)}

    def others(self, images: Set[str]) -> Iterator[Held]:
        """Images that have their place here and are none of these."""
        names = {_file(image) for image in images}
        for path in sorted(self.folder.glob("[!.]*/*.dcm")):
            if path.name not in names:
                yield _held(path)

    def drop(self, study: str) -> None:
        """A study goes, and what has arrived of it."""
        for folder in self._folders(study):
            shutil.rmtree(folder, ignore_errors=True)

    def keep(self, study: str, images: Set[str]) -> None:
        """Of a study only these images stay."""
        names = {_file(image) for image in images}
        for path in self._files(study):
            if path.name not in names:
                path.unlink()

    def keep_studies(self, studies: Set[str]) -> None:
        """Only these studies stay."""
        names = {name for study in studies for name in (_name(study), f"{ARRIVING}{_name(study)}")}
        for folder in self.folder.iterdir():
            if folder.name not in names:
                shutil.rmtree(folder, ignore_errors=True)

    def finish(self, study: str) -> None:
        """All images of a study have arrived: give it its place, beside those that are there."""
        arriving, place = self._arriving(study), self.folder / _name(study)
        if not arriving.is_dir():
            return
        if not place.exists():
            os.replace(arriving, place)
            return
        for path in arriving.glob("*.dcm"):
            os.replace(path, place / path.name)
        shutil.rmtree(arriving)

    def _arriving(self, study: str) -> Path:
        return self.folder / f"{ARRIVING}{_name(study)}"

    def _folders(self, study: str) -> tuple[Path, Path]:
        return self.folder / _name(study), self._arriving(study)

    def _files(self, study: str) -> list[Path]:
        return [path for folder in self._folders(study) for path in folder.glob("*.dcm")]


SAYS = ("PatientID", "StudyInstanceUID", "AccessionNumber", "Modality")


def _held(path: Path) -> Held:
    return Held(path, *_said(path))


def _patient_of(file: bytes) -> str:
    return _said(BytesIO(file))[0]


def _said(file: Path | BytesIO) -> list[str]:
    """Each of SAYS; "" where nothing can be read: that ingest will say."""
    try:
        ds = dcmread(file, stop_before_pixels=True, specific_tags=list(SAYS))
        return [text(ds, keyword) for keyword in SAYS]
    except Exception:  # pydicom may raise anything on a file of others
        return [""] * len(SAYS)


def _name(uid: str) -> str:
    return hashlib.sha256(uid.encode()).hexdigest()[:32]


def _file(uid: str) -> str:
    return f"{_name(uid)}.dcm"
