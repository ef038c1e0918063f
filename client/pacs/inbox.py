"""Where fetched images lie: a folder a study, a file an image. What is there is whole.

Names are hashes of the UIDs, which come from outside. A study that is being pulled has a hidden folder, which
no ingest looks into, and gets its place when all its images are there.
"""

import hashlib
import os
import shutil
from pathlib import Path

from common.files import write_atomically

ARRIVING = ".arriving-"


class Inbox:
    """The images that came from a PACS, below one folder that only its owner reads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def __contains__(self, study: str) -> bool:
        return (self.folder / _name(study)).is_dir()

    def holds(self, study: str, image: str) -> bool:
        """Whether an image is there, of a whole study or of one that is arriving."""
        return any(
            (folder / _file(image)).is_file()
            for folder in (self.folder / _name(study), self._arriving(study))
        )

    def put(self, study: str, image: str, file: bytes) -> None:
        """Keep one image of a study that is being pulled."""
        write_atomically(self._arriving(study) / _file(image), file)

    def put_pushed(self, study: str, image: str, file: bytes) -> None:
        """Keep one image that was pushed: nobody says when its study is whole."""
        write_atomically(self.folder / _name(study) / _file(image), file)

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


def _name(uid: str) -> str:
    return hashlib.sha256(uid.encode()).hexdigest()[:32]


def _file(uid: str) -> str:
    return f"{_name(uid)}.dcm"
