"""What a model is asked about: each patient's sequence of a cohort, or of DICOM files, read as for
training."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from client.imaging.cohort import Cohort
from client.imaging.decoding import decode
from client.imaging.dicom import Header
from client.imaging.frames import Frame
from client.imaging.outcome import Tally
from client.imaging.sequence import image_of, sequence_of
from client.imaging.sources import patients_in
from client.prediction.sequence import Seen
from common.arrays import Pixels
from common.errors import DataError
from common.handover import Handed
from common.plan import Input


@dataclass(frozen=True)
class Case:
    """One patient's sequence, decoded."""

    patient: str  # as in the files, or a cohort's pseudonym
    pixels: Pixels  # (T, size, size)
    positions: NDArray[np.float64]  # (T,) days or millimetres since the first
    headers: tuple[Header, ...]  # of the images; empty for a cohort

    def seen(self, device: torch.device) -> Seen:
        top = np.iinfo(self.pixels.dtype).max
        frames = torch.from_numpy(np.asarray(self.pixels, dtype=np.float32) / np.float32(top)).to(device)
        return Seen(frames, torch.from_numpy(self.positions.astype(np.float32)).to(device))


@dataclass(frozen=True)
class Refusal:
    """A patient whose images the model does not take, and why."""

    patient: str
    why: str


def is_cohort(source: Path) -> bool:
    """Whether the folder is a cohort's."""
    return (source / "cohort.json").is_file()


def open_cohort(handed: Handed, source: Path) -> Cohort:
    """A cohort for the model. Raises DataError unless it was made for the model's input contract."""
    cohort = Cohort.open(source)
    if cohort.contract != handed.plan.input:
        plan = handed.folder / "plan.yaml"
        raise DataError(
            f"{source}: was ingested for another input contract than the model's; ingest it with {plan}"
        )
    return cohort


def cases(handed: Handed, source: Path, tally: Tally) -> Iterator[Case | Refusal]:
    """Every sequence of a cohort's folder, or of DICOM files.

    Raises:
        DataError: the cohort was made for another input contract, or there is no such file.
    """
    if is_cohort(source):
        cohort = open_cohort(handed, source)
        for i, patient in enumerate(cohort.patients):
            yield Case(str(patient), cohort.frames(i), np.cumsum(cohort.gaps(i), dtype=np.float64), ())
    elif source.exists():
        yield from _of_dicom(handed.plan.input, len(handed.plan.findings), source, tally)
    else:
        raise DataError(f"{source}: no such file or folder; expected DICOM files, or a cohort")


def _of_dicom(contract: Input, n_findings: int, source: Path, tally: Tally) -> Iterator[Case | Refusal]:
    """The same path as an ingest's: choosing, ordering, decoding, and whether enough is left
    (decoding.py)."""
    unknown = np.full(n_findings, np.nan, np.float32)
    patients = patients_in(source, contract, tally)
    sequences = [sequence_of(headers, unknown, contract) for headers in patients.values() if headers]
    decoded = decode([[sequence] for sequence in sequences], contract, tally)
    for patient, headers in patients.items():
        frames: tuple[Frame, ...] = ()
        if headers:
            one = next(decoded)
            frames = one.usable(one.sequences[0], contract, tally)
        if not frames:
            n_usable = len(one.pixels) if headers else 0
            why = f"{n_usable} usable image(s), the model takes at least {contract.min_frames}"
            yield Refusal(patient, why)
            continue
        header_of = {image_of(header, contract): header for header in headers}
        positions = np.array([frame.position for frame in frames])
        pixels: Pixels = np.stack([one.pixels[frame.image] for frame in frames])  # type: ignore[assignment]
        yield Case(patient, pixels, positions - positions[0], tuple(header_of[f.image] for f in frames))  # type: ignore[index]
