"""What a pull needs of a PACS, whichever way it is spoken to."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from pydicom import Dataset


class Unreachable(Exception):  # noqa: N818 - a state of the PACS, not an error of ours
    """Nobody answers, or the connection broke: trying again later may help."""


class Refused(Exception):  # noqa: N818
    """The PACS answered that it cannot: this study fails, others may not."""


@dataclass(frozen=True)
class Series:
    """One series of a study and the images that the PACS says are in it."""

    study: str
    uid: str
    images: frozenset[str]  # SOP Instance UIDs
    announced: int | None = None  # how many the PACS says there are

    def require_whole(self) -> None:
        """Raises Refused if the list is shorter than the PACS itself says."""
        if self.announced is not None and self.announced > len(self.images):
            raise Refused(
                f"the PACS says that a series has {self.announced} images, and lists {len(self.images)}"
            )


class Studies:
    """How many series each study has by the PACS's own word, as far as it was asked and says."""

    def __init__(self) -> None:
        self._n_series: dict[str, int] = {}

    def note(self, study: str, n_series: object) -> None:
        if (n := whole_number(n_series)) is not None:
            self._n_series[study] = n

    def require_whole(self, study: str, n_listed: int) -> None:
        """Raises Refused if fewer series are listed, of all modalities, than the PACS says."""
        if n_listed < (n := self._n_series.get(study, 0)):
            raise Refused(f"the PACS says that a study has {n} series, and lists {n_listed}")


KEYWORDS = {"patient": "PatientID", "study": "StudyInstanceUID", "accession": "AccessionNumber"}
"""What studies can be asked for by."""


def is_about(told: str, value: str) -> bool:
    """Whether an answer to a question for `value` is about it, by what it says itself; one that does not say
    is."""
    return told in ("", value.strip())


DUPLICATE = 0x0111
"""The status of an object that is there already (PS3.4 B.2.3): what we make has the same UID at each try."""
MAX_ANSWERS = 100_000
"""Answers to one question: no patient has so many studies, no series so many images."""


def whole_number(value: object) -> int | None:
    """Of an answer, which may hold anything."""
    try:
        return int(str(value))
    except ValueError:
        return None


Store = Callable[[str, bytes], None]
"""Takes a SOP Instance UID and a DICOM file."""


class Archive(Protocol):
    """A PACS. Every method raises Unreachable or Refused."""

    def studies(self, key: str, value: str) -> Iterator[tuple[str, str]]:
        """(Study Instance UID, Patient ID) of each study whose `key` ("patient", "study", "accession") is
        `value`, also by the answer: a PACS that does not look for a key answers with all that it has."""
        ...

    def series(self, study: str, modalities: tuple[str, ...]) -> list[Series]:
        """The series of a study with images of these modalities."""
        ...

    def store(self, objects: Sequence[Dataset]) -> None:
        """Give objects of ours to the PACS."""
        ...

    def fetch(self, series: Series, missing: frozenset[str], store: Store) -> None:
        """Hand each of the `missing` images of a series to `store`; maybe more, if the PACS only sends whole
        series. One that cannot be had is left out, and its reason is written to the site's log."""
        ...
