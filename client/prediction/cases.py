"""What a model is asked about: each patient's sequence of a cohort, or of DICOM files, read as for
training."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from client.imaging.cohort import Cohort, is_cohort
from client.imaging.decoding import Decoded, decode
from client.imaging.dicom import Header
from client.imaging.frames import Frame
from client.imaging.outcome import Tally
from client.imaging.sequence import image_of, sequence_of
from client.imaging.sources import ImageIndex, NpzFile, Source, patients_in
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
    headers: tuple[Header, ...]  # of the images; empty for what is not DICOM
    held_out: bool = False  # no run trains on it
    latest: str = ""  # study of the patient's last image, also of one that cannot be decoded

    def seen(self, device: torch.device) -> Seen:
        top = np.iinfo(self.pixels.dtype).max
        frames = torch.from_numpy(np.asarray(self.pixels, dtype=np.float32) / np.float32(top)).to(device)
        return Seen(frames, torch.from_numpy(self.positions.astype(np.float32)).to(device))


@dataclass(frozen=True)
class Refusal:
    """A patient whose images the model does not take, and why."""

    patient: str
    why: str


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
    """Every sequence of a cohort's folder, of images with an index, of an .npz, or of DICOM files. Labels are
    not asked for, but in an .npz.

    Raises:
        DataError: the cohort was made for another input contract, or there is no such file.
    """
    if is_cohort(source):
        cohort = open_cohort(handed, source)
        for i, patient in enumerate(cohort.patients):
            yield Case(str(patient), cohort.frames(i), np.cumsum(cohort.gaps(i), dtype=np.float64), ())
    elif images := _images(source):
        for one, held_out in images:
            yield from _of_images(handed, one, held_out, tally)
    elif source.exists():
        yield from _of_dicom(handed.plan.input, len(handed.plan.findings), source, tally)
    else:
        expected = "DICOM files, images with index.csv, an .npz, or a cohort"
        raise DataError(f"{source}: no such file or folder; expected {expected}")


def _images(source: Path) -> list[tuple[Source, bool]]:
    """Images, and whether no run trains on them (a MedMNIST-style file's test arrays); none for DICOM
    files."""
    if source.suffix == ".npz" and source.is_file():
        there = NpzFile(source).parts()
        trained = tuple(part for part in there if part != "test")
        parts = [(trained, False), (("test",), True)] if "test" in there else [(trained, False)]
        return [(NpzFile(source, splits=splits), held) for splits, held in parts if splits or not there]
    index = source / "index.csv" if (source / "index.csv").is_file() else source
    return [(ImageIndex(index, labelled=False), False)] if index.suffix == ".csv" and index.is_file() else []


def _of_images(handed: Handed, source: Source, held_out: bool, tally: Tally) -> Iterator[Case | Refusal]:
    contract = handed.plan.input
    collection = source.read(contract, handed.plan.findings)
    for reason, n in collection.tally.counts.items():
        tally.add(reason, n)
    for one in decode([[sequence] for sequence in collection.sequences], contract, tally):
        (sequence,) = one.sequences
        if frames := one.usable(sequence, contract, tally):
            yield _case(sequence.patient, one, frames, (), held_out=held_out)
        else:
            yield _refusal(sequence.patient, len(one.pixels), contract)


def _case(
    patient: str,
    one: Decoded,
    frames: tuple[Frame, ...],
    headers: tuple[Header, ...],
    *,
    held_out: bool = False,
    latest: str = "",
) -> Case:
    pixels: Pixels = np.stack([one.pixels[frame.image] for frame in frames])  # type: ignore[assignment]
    positions = np.array([frame.position for frame in frames])
    return Case(patient, pixels, positions - positions[0], headers, held_out, latest)


def doubts_of(tally: Tally) -> list[str]:
    """What was left out, and what is used and should be looked at, for people."""
    left_out = tally.left_out()
    return [
        f"{'left out' if name in left_out else 'look at'}: {n} {name.replace('_', ' ')}"
        for name, n in tally.as_dict().items()
    ]


def _refusal(patient: str, n_usable: int, contract: Input) -> Refusal:
    if n_usable >= contract.min_frames:
        return Refusal(patient, "no usable image of the newest visit, which the model speaks of")
    return Refusal(patient, f"{n_usable} usable image(s), the model takes at least {contract.min_frames}")


def _of_dicom(contract: Input, n_findings: int, source: Path, tally: Tally) -> Iterator[Case | Refusal]:
    """The same path as an ingest's: choosing, ordering, decoding, and whether enough is left
    (decoding.py)."""
    unknown = np.full(n_findings, np.nan, np.float32)
    patients = patients_in(source, contract, tally)
    by = "study" if contract.label == "visit" else "patient"
    sequences = [sequence_of(headers, unknown, contract, by) for headers in patients.values() if headers]
    decoded = decode([[sequence] for sequence in sequences], contract, tally)
    for patient, headers in patients.items():
        frames: tuple[Frame, ...] = ()
        if headers:
            one = next(decoded)
            frames = one.usable(one.sequences[0], contract, tally)
        if not frames:
            yield _refusal(patient, len(one.pixels) if headers else 0, contract)
            continue
        header_of = {image_of(header, contract): header for header in headers}
        shown = tuple(header_of[f.image] for f in frames)  # type: ignore[index]
        yield _case(patient, one, frames, shown, latest=headers[-1].study)
