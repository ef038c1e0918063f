"""A cohort's counts and distributions."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from client.imaging.cohort import Cohort
from client.imaging.outcome import NOTES, PATIENT_REASONS, Reason
from client.imaging.quality.greys import Greys, greys_of
from client.imaging.quality.verdict import Verdict, judge
from common.arrays import Reals
from common.plan import Plan


@dataclass(frozen=True)
class Five:
    """A distribution's least, quartiles and most."""

    min: float
    q1: float
    median: float
    q3: float
    max: float

    @classmethod
    def of(cls, values: Reals) -> "Five | None":
        if not len(values):
            return None
        return cls(*(float(q) for q in np.quantile(values, np.linspace(0, 1, 5))))


@dataclass(frozen=True)
class Labels:
    """Sequences by one finding."""

    positive: int
    negative: int
    unknown: int
    prevalence: float | None  # of the known ones


@dataclass(frozen=True)
class Row:
    """One reason, and how many files or patients have it."""

    reason: str
    words: str
    count: int
    of: str


@dataclass(frozen=True)
class Doubt:
    """A label that a model holds for unlikely (client/prediction/doubts.py)."""

    sequence: int  # its place in the cohort
    finding: str
    probability: float  # of the finding, by the model
    part: str  # of the model's run: it may have learnt the label of a training patient by heart


@dataclass(frozen=True)
class Quality:
    """What `client ingest` shows, and prints with --json."""

    verdict: Verdict
    patients: int
    sequences: int
    images: int
    split: Mapping[str, int]  # patients by part
    in_two_splits: int
    lengths: Five | None  # images in a sequence
    gaps: Five | None
    gap_unit: str
    scanners: Mapping[str, int]  # sequences
    findings: Mapping[str, Labels]
    same_pixels_under_two_patients: int
    blank_images: int
    left_out: list[Row]
    removed: Mapping[str, int]  # identifying attribute -> files
    fingerprint: str
    notes: list[Row]
    greys: Mapping[str, Greys]  # by scanner


def describe(cohort: Cohort, plan: Plan) -> Quality:
    """What a cohort is like under a plan."""
    gaps = np.concatenate([cohort.gaps(i)[1:] for i in range(len(cohort))]) if len(cohort) else np.zeros(0)
    split = cohort.split(plan.split)
    shared, blank, greys = count_shared_images(cohort), _count_blank(cohort), greys_of(cohort)
    return Quality(
        verdict=judge(cohort, plan, shared, blank, greys),
        patients=len(set(cohort.patients)),
        sequences=len(cohort),
        images=cohort.n_images,
        split={part: cohort.count_patients(indices) for part, indices in split.items()},
        in_two_splits=_in_two_splits(cohort, split),
        lengths=Five.of(cohort.lengths.astype(np.float64)),
        gaps=Five.of(gaps),
        gap_unit="mm" if plan.input.modality == "ct" else "days",
        scanners=dict(Counter(cohort.scanners.tolist()).most_common()),
        findings={finding: _labels(cohort.labels[:, k]) for k, finding in enumerate(cohort.findings)},
        same_pixels_under_two_patients=shared,
        blank_images=blank,
        left_out=_reasons(cohort, lambda r: r not in NOTES),
        removed=cohort.removed,
        fingerprint=cohort.fingerprint,
        notes=_reasons(cohort, lambda r: r in NOTES),
        greys=greys,
    )


def _labels(labels: NDArray[np.float32]) -> Labels:
    positive, negative = int((labels == 1).sum()), int((labels == 0).sum())
    known = positive + negative
    return Labels(positive, negative, len(labels) - known, positive / known if known else None)


def _in_two_splits(cohort: Cohort, split: dict[str, NDArray[np.intp]]) -> int:
    """Patients on both sides of a split. Zero by construction, and counted all the same."""
    parts = Counter(
        patient for indices in split.values() for patient in set(cohort.patients[indices].tolist())
    )
    return sum(n > 1 for n in parts.values())


def count_shared_images(cohort: Cohort) -> int:
    """Images whose very pixels belong to more than one patient: mixed-up identities, or a test image."""
    owners: dict[bytes, set[str]] = defaultdict(set)
    for i in range(len(cohort)):
        for frame in cohort.frames(i):
            owners[hashlib.sha256(frame.tobytes()).digest()].add(str(cohort.patients[i]))
    return sum(len(patients) > 1 for patients in owners.values())


def _count_blank(cohort: Cohort) -> int:
    """Images of one grey value."""
    return sum(int(frame.min() == frame.max()) for frame in cohort.images())


def _reasons(cohort: Cohort, wanted: Callable[[Reason], bool]) -> list[Row]:
    return [
        Row(r.name.lower(), r.value, n, "patients" if r in PATIENT_REASONS else "files")
        for r in Reason
        if wanted(r) and (n := cohort.tally.counts[r])
    ]
