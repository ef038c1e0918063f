"""The cohort: sequences decoded once, windowed and resized, on disk; opened in milliseconds by memory-mapping.

A cohort folder holds `frames.bin` (frames one after another, uint8 or uint16), `frames.arrow` (the gap before each),
`sequences.arrow` (pseudonym, first frame, number of frames, labels, scanner) and `cohort.json` (contract, counts,
fingerprint of the sources). It is written beside its place and renamed into it, so it is whole or not there.
"""

import hashlib
import hmac
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import feather

from client.imaging.outcome import Reason, Skipped, Tally
from client.imaging.pixels import DicomPixels, Pixels, fit
from client.imaging.reader import frames_of
from client.imaging.sequence import Collection, Frame, Sequence
from common.errors import DataError
from common.plan import Input, Split, canonical_json

FORMAT = 1


def pseudonym(patient: str, key: bytes) -> str:
    """HMAC-SHA256 of the patient ID under a key that stays at the site: 32 hex digits, no way back."""
    return hmac.new(key, patient.encode(), hashlib.sha256).hexdigest()[:32]


def split_position(pseudonym: str) -> float:
    """Where a patient falls in [0, 1): the same for ever, whoever else is in the cohort."""
    return int(hashlib.sha256(f"split:{pseudonym}".encode()).hexdigest()[:13], 16) / 16.0**13


def build_cohort(folder: Path, collection: Collection, contract: Input, findings: tuple[str, ...], key: bytes, stamp: str) -> None:
    """Decode every sequence and write the cohort into `folder`, replacing what is there.

    Args:
        key: secret of the site behind the pseudonyms.
        stamp: fingerprint of the sources, see `is_current`.
    """
    building = folder.with_name(f".{folder.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    rows, gaps = _write_frames(building / "frames.bin", collection, contract, key)
    feather.write_feather(pa.table({"gap": pa.array(gaps, pa.float32())}), building / "frames.arrow", compression="uncompressed")
    feather.write_feather(_sequence_table(rows, findings), building / "sequences.arrow", compression="uncompressed")
    about = {
        "format": FORMAT,
        "input": contract.model_dump(mode="json"),
        "findings": list(findings),
        "stamp": stamp,
        "n_frames": len(gaps),
        "skipped": collection.tally.as_dict(),
    }
    (building / "cohort.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(building, folder)


def _write_frames(path: Path, collection: Collection, contract: Input, key: bytes) -> tuple[list[dict[str, Any]], list[float]]:
    rows: list[dict[str, Any]] = []
    gaps: list[float] = []
    with path.open("wb") as file:
        sequences = sorted(collection.sequences, key=lambda s: pseudonym(s.patient, key))
        loaded = _load([frame for sequence in sequences for frame in sequence.frames], contract)
        for sequence in sequences:
            frames = list(_readable_frames(sequence, loaded, collection.tally))
            if not frames:
                collection.tally.add(Reason.NO_FRAMES)
                continue
            rows.append({
                "patient": pseudonym(sequence.patient, key), "first": len(gaps), "n_frames": len(frames),
                "labels": sequence.labels, "scanner": sequence.scanner,
            })  # fmt: skip
            positions = [position for position, _ in frames]
            gaps += [0.0, *np.diff(positions)]
            file.writelines(pixels.tobytes() for _, pixels in frames)
    return rows, gaps


def _readable_frames(sequence: Sequence, loaded: Iterator[Pixels | Skipped], tally: Tally) -> Iterator[tuple[float, Pixels]]:
    for frame in sequence.frames:
        pixels = next(loaded)
        if isinstance(pixels, Skipped):
            tally.add(pixels.reason)
        else:
            yield frame.position, pixels


def _load(frames: list[Frame], contract: Input) -> Iterator[Pixels | Skipped]:
    """Every frame in the contract's size and depth, in order. DICOM is read in processes of its own (reader.py)."""
    wanted = [frame.load for frame in frames if isinstance(frame.load, DicomPixels)]
    if len(wanted) == len(frames):
        yield from frames_of(wanted, contract)
        return
    for frame in frames:
        try:
            yield fit(frame.load(), contract.size, contract.depth)
        except Skipped as skipped:
            yield skipped


def _sequence_table(rows: list[dict[str, Any]], findings: tuple[str, ...]) -> pa.Table:
    columns: dict[str, pa.Array] = {
        "patient": pa.array([r["patient"] for r in rows], pa.string()),
        "first": pa.array([r["first"] for r in rows], pa.int64()),
        "n_frames": pa.array([r["n_frames"] for r in rows], pa.int64()),
        "scanner": pa.array([r["scanner"] for r in rows], pa.string()),
    }
    for k, finding in enumerate(findings):
        columns[f"label:{finding}"] = pa.array([float(r["labels"][k]) for r in rows], pa.float32())
    return pa.table(columns)


def stamp_of(fingerprint: str, contract: Input, findings: tuple[str, ...], *more: str) -> str:
    """What a cohort depends on, as one SHA-256: its sources, the input contract, the findings, and `more`."""
    parts = [str(FORMAT), fingerprint, canonical_json(contract.model_dump(mode="json")), *findings, *more]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def is_current(folder: Path, stamp: str) -> bool:
    """Whether `folder` holds a whole cohort made from exactly what `stamp` stands for."""
    try:
        found: bool = json.loads((folder / "cohort.json").read_text(encoding="utf-8"))["stamp"] == stamp
    except (OSError, ValueError, KeyError):
        return False
    return found


@dataclass(frozen=True)
class _Part:
    """One cohort folder, open."""

    frames: Pixels  # (F, size, size), memory-mapped
    gaps: NDArray[np.float32]  # (F,)
    table: pa.Table
    about: dict[str, Any]

    @classmethod
    def open(cls, folder: Path) -> "_Part":
        try:
            about = json.loads((folder / "cohort.json").read_text(encoding="utf-8"))
            if about["format"] != FORMAT:
                raise DataError(f"{folder}: a cohort of format {about['format']}, expected {FORMAT}; ingest it again")
            contract = Input.model_validate(about["input"])
            shape = (about["n_frames"], contract.size, contract.size)
            dtype = np.uint8 if contract.depth == 8 else np.uint16
            path = folder / "frames.bin"
            frames = np.memmap(path, dtype, "r", shape=shape) if about["n_frames"] else np.zeros(shape, dtype)
            gaps = feather.read_table(folder / "frames.arrow", memory_map=True)["gap"].to_numpy()
            table = feather.read_table(folder / "sequences.arrow", memory_map=True)
        except (OSError, ValueError, KeyError, pa.ArrowInvalid) as e:
            raise DataError(f"{folder}: not a whole cohort ({type(e).__name__}); ingest it again") from None
        return cls(frames, gaps, table, about)


class Cohort:
    """The sequences of one site, from one cohort folder or several, in a fixed order. Read-only.

    Attributes:
        patients: (N,) pseudonyms; labels: (N, K) float32, NaN where unknown; lengths: (N,) int64 frames a sequence.
        scanners: (N,) text; tally: what was left out and why.
    """

    def __init__(self, parts: list[_Part]) -> None:
        self.contract = Input.model_validate(parts[0].about["input"])
        self.findings: tuple[str, ...] = tuple(parts[0].about["findings"])
        if any(p.about["input"] != parts[0].about["input"] or p.about["findings"] != list(self.findings) for p in parts):
            raise DataError("cohorts of different input contracts or findings cannot be used together; ingest them again")
        self._parts = parts
        self._part = np.repeat(np.arange(len(parts)), [p.table.num_rows for p in parts])
        self._first = _column(parts, "first").astype(np.int64)
        self.lengths: NDArray[np.int64] = _column(parts, "n_frames").astype(np.int64)
        self.patients: NDArray[np.str_] = _column(parts, "patient").astype(np.str_)
        self._position = np.array([split_position(p) for p in self.patients])
        self.scanners: NDArray[np.str_] = _column(parts, "scanner").astype(np.str_)
        self.labels: NDArray[np.float32] = np.stack([_column(parts, f"label:{f}").astype(np.float32) for f in self.findings], 1)
        self.tally = sum((Tally.from_dict(p.about["skipped"]) for p in parts), Tally())

    @classmethod
    def open(cls, *folders: Path) -> "Cohort":
        """Open cohort folders as one. Raises DataError if one is not whole, or their contracts differ."""
        return cls([_Part.open(folder) for folder in folders])

    def __len__(self) -> int:
        return len(self.lengths)

    def count_patients(self, indices: NDArray[np.intp]) -> int:
        """How many patients the sequences `indices` belong to."""
        return len(np.unique(self.patients[indices]))

    def frames(self, i: int) -> Pixels:
        """(T, size, size) of sequence `i`, a view of the file."""
        part = self._parts[self._part[i]]
        frames: Pixels = part.frames[self._first[i] : self._first[i] + self.lengths[i]]
        return frames

    def gaps(self, i: int) -> NDArray[np.float32]:
        """(T,) days or millimetres since the frame before; the first is 0."""
        part = self._parts[self._part[i]]
        gaps: NDArray[np.float32] = part.gaps[self._first[i] : self._first[i] + self.lengths[i]]
        return gaps

    def split(self, split: Split) -> dict[str, NDArray[np.intp]]:
        """Indices of the `train`, `validation` and `test` sequences; a patient is in one of them only."""
        test, validation = self._position < split.test, self._position < split.test + split.validation
        return {
            "train": np.flatnonzero(~validation),
            "validation": np.flatnonzero(validation & ~test),
            "test": np.flatnonzero(test),
        }


def _column(parts: list[_Part], name: str) -> NDArray[Any]:
    return np.concatenate([part.table[name].to_numpy(zero_copy_only=False) for part in parts])


def require_trainable(cohort: Cohort, split: Split, min_patients: int, site: str) -> None:
    """Raise DataError, naming `site`, if it has too few training patients or a finding with one class only."""
    train = cohort.split(split)["train"]
    n_patients = cohort.count_patients(train)
    if n_patients < min_patients:
        raise DataError(f"{site}: found {n_patients} training patients, the plan's minimum is {min_patients} (min_patients)")
    for k, finding in enumerate(cohort.findings):
        known = cohort.labels[train, k]
        classes = np.unique(known[~np.isnan(known)])
        if len(classes) < 2:
            found = "no label" if len(classes) == 0 else f"only {'positive' if classes[0] else 'negative'} ones"
            raise DataError(f"{site}: {finding}: found {found} among {n_patients} training patients, expected both classes")
