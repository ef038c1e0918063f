"""A cohort, open: its sequences in a fixed order, memory-mapped. Read-only."""

import hashlib
import hmac
import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import feather

from client.imaging.outcome import Tally
from common.arrays import Pixels
from common.attributes import ATTRIBUTES
from common.errors import DataError
from common.plan import Input, Split
from common.together import told_apart

FORMAT = 3
RULES = 5
"""By which images are chosen, ordered and turned into grey values: other rules, another cohort."""


def is_cohort(folder: Path) -> bool:
    """Whether the folder is a cohort's."""
    return (folder / "cohort.json").is_file()


def pseudonym(patient: str, key: bytes) -> str:
    """HMAC-SHA256 of the patient ID under a key that stays at the site: 32 hex digits, no way back."""
    return hmac.new(key, patient.encode(), hashlib.sha256).hexdigest()[:32]


def split_position(pseudonym: str) -> float:
    """Where a patient falls in [0, 1): the same for ever, whoever else is in the cohort."""
    return int(hashlib.sha256(f"split:{pseudonym}".encode()).hexdigest()[:13], 16) / 16.0**13


def part_of(pseudonym: str, split: Split) -> str:
    """`train`, `validation` or `test`: where a plan's split puts a patient."""
    position = split_position(pseudonym)
    if position < split.test:
        return "test"
    return "validation" if position < split.test + split.validation else "train"


@dataclass(frozen=True)
class Part:
    """One cohort folder, open."""

    frames: Pixels  # (F, size, size), memory-mapped
    gaps: NDArray[np.float32]  # (F,) since the frame before in the file
    about_frames: pa.Table
    table: pa.Table
    description: dict[str, Any]

    @classmethod
    def open(cls, folder: Path) -> "Part":
        try:
            description = json.loads((folder / "cohort.json").read_text(encoding="utf-8"))
            if description["format"] != FORMAT:
                raise DataError(
                    f"{folder}: format {description['format']}, expected {FORMAT}; ingest it again"
                )
            contract = Input.model_validate(description["input"])
            shape = (description["n_frames"], contract.size, contract.size)
            dtype = np.uint8 if contract.depth == 8 else np.uint16
            path = folder / "frames.bin"
            # Not np.memmap: it keeps a descriptor, and a simulation may have a thousand cohorts open.
            mapped = pa.memory_map(str(path)).read_buffer() if description["n_frames"] else b""
            frames = np.frombuffer(mapped, dtype, math.prod(shape)).reshape(shape)
            about_frames = feather.read_table(folder / "frames.arrow", memory_map=True)
            table = feather.read_table(folder / "sequences.arrow", memory_map=True)
        except (OSError, ValueError, KeyError, pa.ArrowInvalid) as e:
            raise DataError(f"{folder}: not a whole cohort ({type(e).__name__}); ingest it again") from None
        return cls(frames, about_frames["gap"].to_numpy(), about_frames, table, description)

    @property
    def tokens(self) -> list[bytes]:
        """(F,) which file each frame came from, see `_token`."""
        tokens: list[bytes] = self.about_frames["source"].to_pylist()
        return tokens

    @property
    def notes(self) -> list[list[str]]:
        """(F,) why each frame is to be looked at: names of outcome.NOTES; nothing in cohorts of before."""
        if "notes" not in self.about_frames.column_names:
            return [[]] * len(self.gaps)
        notes: list[list[str]] = self.about_frames["notes"].to_pylist()
        return notes


class Cohort:
    """The sequences of one site, from one cohort folder or several, in a fixed order. Read-only.

    Attributes:
        patients: (N,) pseudonyms; labels: (N, K) float32, NaN where unknown; lengths: (N,) int64 frames a
        sequence.
        attributes: (N,) text each, see attributes.py; scanners: the first of them.
        tally: what was left out and why; removed: identifying attribute -> files that had it.
        fingerprint: SHA-256 of all that training sees.
    """

    def __init__(self, parts: list[Part]) -> None:
        self.contract = Input.model_validate(parts[0].description["input"])
        self.findings: tuple[str, ...] = tuple(parts[0].description["findings"])
        if any(
            p.description["input"] != parts[0].description["input"]
            or p.description["findings"] != list(self.findings)
            for p in parts
        ):
            raise DataError(
                "cohorts of different input contracts or findings cannot be used together; ingest them again"
            )
        self._parts = parts
        self._notes: dict[int, list[list[str]]] = {}
        self._part = np.repeat(np.arange(len(parts)), [p.table.num_rows for p in parts])
        self._first = _column(parts, "first").astype(np.int64)
        self.lengths: NDArray[np.int64] = _column(parts, "n_frames").astype(np.int64)
        names = [part.table["patient"].to_numpy(zero_copy_only=False).astype(np.str_) for part in parts]
        self.patients: NDArray[np.str_] = told_apart(names)
        self._position = np.array([split_position(p) for p in np.concatenate(names)])
        self.attributes: dict[str, NDArray[np.str_]] = {
            name: _column(parts, name).astype(np.str_) for name in ATTRIBUTES
        }
        self.scanners = self.attributes["scanner"]
        self.labels: NDArray[np.float32] = np.stack(
            [_column(parts, f"label:{f}").astype(np.float32) for f in self.findings], 1
        )
        self.removed = dict(sum((Counter(p.description["removed"]) for p in parts), Counter[str]()))
        self.fingerprint = hashlib.sha256(
            "".join(p.description["fingerprint"] for p in parts).encode()
        ).hexdigest()
        self.tally = sum((Tally.from_dict(p.description["skipped"]) for p in parts), Tally())

    @classmethod
    def open(cls, *folders: Path) -> "Cohort":
        """Open cohort folders as one. Raises DataError if one is not whole, or their contracts differ."""
        return cls([Part.open(folder) for folder in folders])

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def n_images(self) -> int:
        """Each once, however many of its patient's sequences it is in."""
        return sum(len(part.gaps) for part in self._parts)

    def images(self) -> Iterator[Pixels]:
        """(size, size) each, once."""
        return chain.from_iterable(part.frames for part in self._parts)

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
        gaps: NDArray[np.float32] = part.gaps[self._first[i] : self._first[i] + self.lengths[i]].copy()
        gaps[:1] = 0.0  # the frame before may be one that only another sequence of the patient has
        return gaps

    def notes(self, i: int) -> list[list[str]]:
        """(T,) why each frame of sequence `i` is to be looked at."""
        number = int(self._part[i])
        if number not in self._notes:
            self._notes[number] = self._parts[number].notes
        return self._notes[number][self._first[i] : self._first[i] + self.lengths[i]]

    def padded(self, indices: NDArray[np.intp]) -> tuple[Pixels, NDArray[np.float32]]:
        """Frames (B, T, size, size) and gaps (B, T) of several sequences, zeros behind the end of each."""
        lengths, n = self.lengths[indices], len(indices)
        time = np.arange(int(lengths.max()))
        real = time < lengths[:, None]
        at = np.where(real, self._first[indices][:, None] + time, 0)
        frames = np.zeros((n, len(time), self.contract.size, self.contract.size), self._parts[0].frames.dtype)
        gaps = np.zeros((n, len(time)), np.float32)
        for number, part in enumerate(self._parts):
            mine = real & (self._part[indices] == number)[:, None]
            if mine.all():
                np.take(
                    part.frames, at, axis=0, out=frames, mode="clip"
                )  # the same copy, without one in between
                gaps[:] = part.gaps[at]
            elif mine.any():
                frames[mine], gaps[mine] = part.frames[at[mine]], part.gaps[at[mine]]
        gaps[:, 0] = 0.0  # see `gaps`
        return frames, gaps

    def split(self, split: Split) -> dict[str, NDArray[np.intp]]:
        """Indices of the `train`, `validation` and `test` sequences; a patient is in one of them only."""
        test, validation = self._position < split.test, self._position < split.test + split.validation
        return {
            "train": np.flatnonzero(~validation),
            "validation": np.flatnonzero(validation & ~test),
            "test": np.flatnonzero(test),
        }


def _column(parts: list[Part], name: str) -> NDArray[Any]:
    return np.concatenate([part.table[name].to_numpy(zero_copy_only=False) for part in parts])


def require_trainable(cohort: Cohort, split: Split, min_patients: int, site: str) -> None:
    """Raise DataError, naming `site`, if it has too few training patients or a finding with one class
    only."""
    train = cohort.split(split)["train"]
    n_patients = cohort.count_patients(train)
    if n_patients < min_patients:
        raise DataError(
            f"{site}: found {n_patients} training patients, the plan's minimum is {min_patients} "
            "(min_patients)"
        )
    for k, finding in enumerate(cohort.findings):
        known = cohort.labels[train, k]
        classes = np.unique(known[~np.isnan(known)])
        if len(classes) < 2:
            batch = (
                "no label" if len(classes) == 0 else f"only {'positive' if classes[0] else 'negative'} ones"
            )
            raise DataError(
                f"{site}: {finding}: found {batch} among {n_patients} training patients, expected both "
                "classes"
            )
