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
    DUPLICATE = "same SOP instance as another file"
    UNLABELLED = "patient without a label"
    FORGOTTEN = "patient who asked to be left out"
    NO_FRAMES = "patient without a readable image"
    TOO_SHORT = "sequence with fewer images than the plan asks for"
    BURNT_IN = "text may be drawn into the image"
    VIEW_UNKNOWN = "does not say its view, taken for frontal"
    PLACED_BY_NUMBER = "placed by slice location or number, not by geometry"
    SLICES_MISSING = "patient whose CT has slices missing"


class Skipped(Exception):  # noqa: N818 - an outcome, not an error
    """One file cannot be used. Never leaves `client.imaging`: it is counted there."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


PATIENT_REASONS = (
    Reason.UNLABELLED,
    Reason.NO_FRAMES,
    Reason.FORGOTTEN,
    Reason.SLICES_MISSING,
    Reason.TOO_SHORT,
)
"""These count patients; all others count files."""

NOTES = (Reason.BURNT_IN, Reason.VIEW_UNKNOWN, Reason.PLACED_BY_NUMBER, Reason.SLICES_MISSING)
"""These count what is used, and should be looked at."""


@dataclass
class Tally:
    """How many files and patients fell out, by reason. Which files they were stands in the site's own log
    only."""

    counts: Counter[Reason] = field(default_factory=Counter)

    def add(self, reason: Reason, n: int = 1) -> None:
        self.counts[reason] += n

    def add_files(self, reason: Reason, paths: Iterable[Path | None]) -> None:
        """Count files, and write the path of each that has one into the site's own log."""
        for path in paths:
            self.counts[reason] += 1
            if path is not None:
                log.info("%s: %s", reason.name.lower(), path)

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
