"""What became of each file and patient. A bad one is counted with its reason, never fatal."""

import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

log = logging.getLogger("pneumofed.ingest")
"""The site's own log: the only place where a path is written."""


class Reason(StrEnum):
    """Why a file or a patient is not in the cohort."""

    NOT_DICOM = "not a DICOM file"
    BROKEN = "cannot be read or decoded"
    TOO_SLOW = "took too long to read"
    DECODER_CRASHED = "crashed its decoder"
    NO_PIXELS = "no image in it"
    SEVERAL_IMAGES = "several images in one file, of which a table can name none"
    TOO_LARGE = "more pixels than a chest image has"
    OTHER_MODALITY = "another modality than the plan's"
    NO_PATIENT = "no patient ID"
    NO_TIME = "no date to order it by"
    NO_POSITION = "no position to order it by"
    OTHER_SERIES = "another series of the same patient"
    NOT_A_SLICE = "localiser, derived image or capture of a CT"
    OTHER_STUDY = "study of a patient that no label is about"
    SAME_PLACE = "slice at the place of another"
    NOT_FRONTAL = "lateral or oblique view"
    NOT_CHEST = "another part of the body"
    NOT_AXIAL = "CT slice that is not axial"
    RAW = "the detector's raw signal (For Processing)"
    CAPTURE = "capture or derived image beside an original"
    DUPLICATE = "same SOP instance as another file"
    SAME_EXPOSURE = "the same exposure as another image"
    TWO_PEOPLE = "patient ID that stands for two people"
    KEY_SHARED = "study or accession number of several patients"
    UNLABELLED = "patient without a label"
    FORGOTTEN = "patient who asked to be left out"
    NO_FRAMES = "patient without a readable image"
    TOO_SHORT = "sequence with fewer images than the plan asks for"
    BURNT_IN = "text may be drawn into the image"
    VIEW_UNKNOWN = "does not say its view, taken for frontal"
    PLACED_BY_NUMBER = "placed by slice location or number, not by geometry"
    SLICES_MISSING = "patient whose CT has slices missing"
    CAPTURE_USED = "capture or derived image, with no original beside it"
    DARK = "uses less than a sixteenth of its file's range of grey values"
    VIEW_DISAGREES = "its view is told in two ways"
    UNLIKE_CHEST = "does not look like a chest from the front"
    BODY_PART_UNSURE = "told to show the chest and another part, or one that is not known here"
    DATES_DISAGREE = "its dates lie more than a week apart"
    ORDER_UNSURE = "has no time of day, or another image's, beside another image of the day"
    ZONE_UNSURE = "does not say its time zone, beside images of several"
    TURNED = "mirrored, turned or prone, by its header, and used as it lies"


@dataclass(frozen=True)
class Owner:
    """Whom a file is about, as far as it says."""

    patient: str = ""
    study: str = ""
    accession: str = ""


class Skipped(Exception):  # noqa: N818 - an outcome, not an error
    """One file cannot be used. Never leaves `client.imaging`: it is counted there."""

    def __init__(self, reason: Reason, owner: "Owner | None" = None) -> None:
        super().__init__(reason.value)
        self.reason, self.owner = reason, owner or Owner()


PATIENT_REASONS = (
    Reason.UNLABELLED,
    Reason.NO_FRAMES,
    Reason.FORGOTTEN,
    Reason.SLICES_MISSING,
    Reason.TOO_SHORT,
    Reason.TWO_PEOPLE,
    Reason.KEY_SHARED,
)
"""These count patients; all others count files."""

NOTES = (
    Reason.BURNT_IN, Reason.VIEW_UNKNOWN, Reason.PLACED_BY_NUMBER, Reason.SLICES_MISSING,
    Reason.CAPTURE_USED, Reason.DARK, Reason.VIEW_DISAGREES, Reason.BODY_PART_UNSURE,
    Reason.DATES_DISAGREE, Reason.ORDER_UNSURE, Reason.ZONE_UNSURE, Reason.UNLIKE_CHEST,
    Reason.TURNED,
)  # fmt: skip
"""These count what is used, and should be looked at."""


def log_files(reason: Reason, paths: Iterable[Path | None]) -> None:
    """Write each path into the site's own log."""
    for path in paths:
        if path is not None:
            log.info("%s: %s", reason.name.lower(), path)


@dataclass
class Tally:
    """How many files and patients fell out, by reason. Which files they were stands in the site's own log
    only."""

    counts: Counter[Reason] = field(default_factory=Counter)
    noted: dict[Path, set[Reason]] = field(default_factory=dict, compare=False)
    """What is used and to be looked at, while a cohort is built: no path stands in it."""

    def add(self, reason: Reason, n: int = 1) -> None:
        self.counts[reason] += n

    def add_files(self, reason: Reason, paths: Iterable[Path | None]) -> None:
        """Count files, and write the path of each that has one into the site's own log."""
        files = list(paths)
        self.counts[reason] += len(files)
        log_files(reason, files)
        if reason in NOTES:
            for path in files:
                if path is not None:
                    self.noted.setdefault(path, set()).add(reason)

    @property
    def skipped_files(self) -> int:
        return sum(n for reason, n in self.counts.items() if reason not in (*PATIENT_REASONS, *NOTES))

    def as_dict(self) -> dict[str, int]:
        """Reason -> count, for JSON; zero counts are left out."""
        return {reason.name.lower(): self.counts[reason] for reason in Reason if self.counts[reason]}

    def left_out(self) -> dict[str, int]:
        """As `as_dict`, without what was used and only noted."""
        return {name: n for name, n in self.as_dict().items() if Reason[name.upper()] not in NOTES}

    @classmethod
    def from_dict(cls, counts: dict[str, int]) -> "Tally":
        return cls(Counter({Reason[name.upper()]: n for name, n in counts.items()}))

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.counts + other.counts)
