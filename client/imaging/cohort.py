"""The cohort: sequences decoded once, windowed and resized, on disk; opened in milliseconds by
memory-mapping.

A cohort folder holds `frames.bin` (frames one after another, uint8 or uint16), `frames.arrow` (the gap before
each, and a keyed hash of the file it came from), `sequences.arrow` (pseudonym, first frame, number of frames,
labels, attributes) and `cohort.json` (contract, counts, fingerprint). Sequences of one patient share frames.
It is written beside its place and renamed into it, so it is whole or not there; frames whose file did not
change are taken over from the cohort before.
"""

import hashlib
import hmac
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import feather

from client.imaging.attributes import ATTRIBUTES
from client.imaging.deidentify import scan
from client.imaging.outcome import Reason, Skipped, Tally
from client.imaging.pixels import DicomPixels, Pixels, fit
from client.imaging.reader import frames_of
from client.imaging.sequence import Collection, Frame, Sequence
from common.errors import DataError
from common.plan import Input, Split, canonical_json

FORMAT = 3


def pseudonym(patient: str, key: bytes) -> str:
    """HMAC-SHA256 of the patient ID under a key that stays at the site: 32 hex digits, no way back."""
    return hmac.new(key, patient.encode(), hashlib.sha256).hexdigest()[:32]


def split_position(pseudonym: str) -> float:
    """Where a patient falls in [0, 1): the same for ever, whoever else is in the cohort."""
    return int(hashlib.sha256(f"split:{pseudonym}".encode()).hexdigest()[:13], 16) / 16.0**13


def build_cohort(
    folder: Path,
    collection: Collection,
    contract: Input,
    findings: tuple[str, ...],
    key: bytes,
    stamp: str,
    forgotten: Set[str] = frozenset(),
) -> None:
    """Decode every sequence and write the cohort into `folder`, replacing what is there.

    Args:
        key: secret of the site behind the pseudonyms.
        stamp: fingerprint of the sources, see `is_current`.
        forgotten: pseudonyms of patients who are left out.

    Raises:
        DataError: an identifier is in the finished cohort; what was there before stays.
    """
    before = _kept_frames(folder, contract)
    wanted = [(pseudonym(s.patient, key), s) for s in collection.sequences]
    collection.tally.add(Reason.FORGOTTEN, len({p for p, _ in wanted} & forgotten))
    wanted = sorted(((p, s) for p, s in wanted if p not in forgotten), key=lambda pair: pair[0])

    def write(building: Path) -> None:
        with (building / "frames.bin").open("wb") as file:
            frames = _Frames(file.write, contract, key, before)
            rows = list(frames.of(wanted, collection.tally))
        _write_tables(building, frames.gaps, frames.tokens, _sequence_table(rows, findings))
        about = {
            "format": FORMAT,
            "input": contract.model_dump(mode="json"),
            "findings": list(findings),
            "stamp": stamp,
            "n_frames": len(frames.gaps),
            "skipped": collection.tally.as_dict(),
            "removed": dict(sorted(collection.removed.items())),
        }
        _write_about(building, about)
        named = {s.patient.lower() for s in collection.sequences} | collection.identifiers
        if places := scan(building, named):
            raise DataError(
                f"the cohort would hold an identifier ({', '.join(places)}); it was not made. Please report "
                "this"
            )

    _replace(folder, write)


def remove_patient(folder: Path, patient: str) -> tuple[int, int]:
    """Write a cohort anew without one patient (a pseudonym): how many sequences and frames went. Raises
    DataError as `open`."""
    part = _Part.open(folder)
    belongs = np.asarray(part.table["patient"].to_numpy(zero_copy_only=False) == patient)
    first, n = (part.table[name].to_numpy().astype(np.int64) for name in ("first", "n_frames"))
    goes = np.zeros(len(part.gaps), bool)
    for i in np.flatnonzero(belongs):
        goes[first[i] : first[i] + n[i]] = True
    if not belongs.any():
        return 0, 0

    def write(building: Path) -> None:
        with (building / "frames.bin").open("wb") as file:
            for frame in np.flatnonzero(~goes):
                file.write(part.frames[frame].tobytes())
        moved = first - np.concatenate([[0], np.cumsum(goes)])[first]
        table = part.table.set_column(
            part.table.column_names.index("first"), "first", pa.array(moved, pa.int64())
        )
        tokens = [token for token, gone in zip(part.tokens, goes, strict=True) if not gone]
        _write_tables(building, part.gaps[~goes].tolist(), tokens, table.filter(pa.array(~belongs)))
        _write_about(building, {**part.about, "n_frames": int((~goes).sum())})

    _replace(folder, write)
    return int(belongs.sum()), int(goes.sum())


def _replace(folder: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a folder beside `folder`, then put it in its place."""
    building = folder.with_name(f".{folder.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    try:
        write(building)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(building, folder)


@dataclass
class _Frames:
    """Writes frames one after another. An image that several sequences of a patient share is read and written
    once."""

    write: Callable[[bytes], Any]
    contract: Input
    key: bytes
    before: Mapping[bytes, Pixels]
    gaps: list[float] = field(default_factory=list)
    tokens: list[bytes] = field(default_factory=list)

    def of(self, wanted: list[tuple[str, Sequence]], tally: Tally) -> Iterator[dict[str, Any]]:
        """Write every sequence's frames, and yield its row of the table. `wanted` is sorted by pseudonym."""
        loaded = self._load([f for _, sequences in _by_patient(wanted) for f in _distinct(sequences)])
        for patient, sequences in _by_patient(wanted):
            number: dict[object, int] = {}
            previous: float | None = None
            for frame in _distinct(sequences):
                token, pixels = next(loaded)
                if isinstance(pixels, Skipped):
                    _count(tally, pixels.reason, frame)
                    continue
                number[_identity(frame)] = len(self.gaps)
                self.gaps.append(0.0 if previous is None else frame.position - previous)
                self.tokens.append(token)
                self.write(pixels.tobytes())
                previous = frame.position
            for sequence in sequences:
                numbers = [number[i] for f in sequence.frames if (i := _identity(f)) in number]
                if not numbers:
                    tally.add(Reason.NO_FRAMES)
                    continue
                assert numbers == list(
                    range(numbers[0], numbers[0] + len(numbers))
                )  # a patient's order is one
                yield {
                    "patient": patient, "first": numbers[0], "n_frames": len(numbers),
                    "labels": sequence.labels, **{name: getattr(sequence, name) for name in ATTRIBUTES},
                }  # fmt: skip

    def _load(self, frames: list[Frame]) -> Iterator[tuple[bytes, Pixels | Skipped]]:
        """Every frame in the contract's size and depth, in order. DICOM is read in processes of its own
        (reader.py)."""
        tokens = [_token(frame, self.key) for frame in frames]
        files = (f.load for f, t in zip(frames, tokens, strict=True) if t not in self.before)
        fresh = frames_of([load for load in files if isinstance(load, DicomPixels)], self.contract)
        for frame, token in zip(frames, tokens, strict=True):
            if token in self.before:
                yield token, self.before[token]
            elif isinstance(frame.load, DicomPixels):
                yield token, next(fresh)
            else:
                try:
                    yield token, fit(frame.load(), self.contract.size, self.contract.depth)
                except Skipped as skipped:
                    yield token, skipped


def _by_patient(wanted: list[tuple[str, Sequence]]) -> Iterator[tuple[str, list[Sequence]]]:
    for patient, pairs in groupby(wanted, key=lambda pair: pair[0]):
        yield patient, [sequence for _, sequence in pairs]


def _identity(frame: Frame) -> object:
    """What makes two frames of a patient the same image."""
    return frame.load if isinstance(frame.load, DicomPixels) else id(frame)


def _distinct(sequences: list[Sequence]) -> list[Frame]:
    """The images of one patient's sequences, each once. Sequences that share some come by their last image
    (sequence.episodes)."""
    return list({_identity(f): f for sequence in sequences for f in sequence.frames}.values())


def _count(tally: Tally, reason: Reason, frame: Frame) -> None:
    if isinstance(frame.load, DicomPixels):
        tally.add_files(reason, [frame.load.path])
    else:
        tally.add(reason)


def _token(frame: Frame, key: bytes) -> bytes:
    """Which file, of what time and size, a frame came from: a keyed hash, which tells nothing without the
    key."""
    if not isinstance(frame.load, DicomPixels):
        return b""
    try:
        stat = frame.load.path.stat()
    except OSError:
        return b""
    text = f"{frame.load.path.resolve()}\0{frame.load.frame}\0{stat.st_size}\0{stat.st_mtime_ns}"
    return hmac.new(key, text.encode(errors="surrogateescape"), hashlib.sha256).digest()[:16]


def _kept_frames(folder: Path, contract: Input) -> dict[bytes, Pixels]:
    """Frames of the cohort in `folder` by their tokens, if it was made for the same contract."""
    try:
        part = _Part.open(folder)
    except DataError:
        return {}
    if part.about["input"] != contract.model_dump(mode="json"):
        return {}
    return {token: part.frames[i] for i, token in enumerate(part.tokens) if token}


def _write_tables(building: Path, gaps: list[float], tokens: list[bytes], sequences: pa.Table) -> None:
    frames = pa.table({"gap": pa.array(gaps, pa.float32()), "source": pa.array(tokens, pa.binary())})
    feather.write_feather(frames, building / "frames.arrow", compression="uncompressed")
    feather.write_feather(sequences, building / "sequences.arrow", compression="uncompressed")


def _write_about(building: Path, about: dict[str, Any]) -> None:
    """cohort.json, with a fingerprint of all that training sees: equal for equal cohorts, wherever their
    files were."""
    digest = hashlib.sha256()
    with (building / "frames.bin").open("rb") as file:
        while block := file.read(2**22):
            digest.update(block)
    digest.update(feather.read_table(building / "frames.arrow")["gap"].to_numpy().tobytes())
    digest.update((building / "sequences.arrow").read_bytes())
    digest.update(canonical_json([about["input"], about["findings"]]).encode())
    text = json.dumps({**about, "fingerprint": digest.hexdigest()}, indent=2)
    (building / "cohort.json").write_text(text + "\n", encoding="utf-8")


def _sequence_table(rows: list[dict[str, Any]], findings: tuple[str, ...]) -> pa.Table:
    columns: dict[str, pa.Array] = {
        "patient": pa.array([r["patient"] for r in rows], pa.string()),
        "first": pa.array([r["first"] for r in rows], pa.int64()),
        "n_frames": pa.array([r["n_frames"] for r in rows], pa.int64()),
        **{name: pa.array([r[name] for r in rows], pa.string()) for name in ATTRIBUTES},
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
    gaps: NDArray[np.float32]  # (F,) since the frame before in the file
    sources: pa.ChunkedArray
    table: pa.Table
    about: dict[str, Any]

    @classmethod
    def open(cls, folder: Path) -> "_Part":
        try:
            about = json.loads((folder / "cohort.json").read_text(encoding="utf-8"))
            if about["format"] != FORMAT:
                raise DataError(
                    f"{folder}: a cohort of format {about['format']}, expected {FORMAT}; ingest it again"
                )
            contract = Input.model_validate(about["input"])
            shape = (about["n_frames"], contract.size, contract.size)
            dtype = np.uint8 if contract.depth == 8 else np.uint16
            path = folder / "frames.bin"
            # As a plain array: a slice of a memmap costs ten times that of an array, and there is one for
            # each sequence.
            frames = (
                np.memmap(path, dtype, "r", shape=shape).view(np.ndarray)
                if about["n_frames"]
                else np.zeros(shape, dtype)
            )
            about_frames = feather.read_table(folder / "frames.arrow", memory_map=True)
            table = feather.read_table(folder / "sequences.arrow", memory_map=True)
        except (OSError, ValueError, KeyError, pa.ArrowInvalid) as e:
            raise DataError(f"{folder}: not a whole cohort ({type(e).__name__}); ingest it again") from None
        return cls(frames, about_frames["gap"].to_numpy(), about_frames["source"], table, about)

    @property
    def tokens(self) -> list[bytes]:
        """(F,) which file each frame came from, see `_token`."""
        tokens: list[bytes] = self.sources.to_pylist()
        return tokens


class Cohort:
    """The sequences of one site, from one cohort folder or several, in a fixed order. Read-only.

    Attributes:
        patients: (N,) pseudonyms; labels: (N, K) float32, NaN where unknown; lengths: (N,) int64 frames a
        sequence.
        attributes: (N,) text each, see attributes.py; scanners: the first of them.
        tally: what was left out and why; removed: identifying attribute -> files that had it.
        fingerprint: SHA-256 of all that training sees.
    """

    def __init__(self, parts: list[_Part]) -> None:
        self.contract = Input.model_validate(parts[0].about["input"])
        self.findings: tuple[str, ...] = tuple(parts[0].about["findings"])
        if any(
            p.about["input"] != parts[0].about["input"] or p.about["findings"] != list(self.findings)
            for p in parts
        ):
            raise DataError(
                "cohorts of different input contracts or findings cannot be used together; ingest them again"
            )
        self._parts = parts
        self._part = np.repeat(np.arange(len(parts)), [p.table.num_rows for p in parts])
        self._first = _column(parts, "first").astype(np.int64)
        self.lengths: NDArray[np.int64] = _column(parts, "n_frames").astype(np.int64)
        self.patients: NDArray[np.str_] = _column(parts, "patient").astype(np.str_)
        self._position = np.array([split_position(p) for p in self.patients])
        self.attributes: dict[str, NDArray[np.str_]] = {
            name: _column(parts, name).astype(np.str_) for name in ATTRIBUTES
        }
        self.scanners = self.attributes["scanner"]
        self.labels: NDArray[np.float32] = np.stack(
            [_column(parts, f"label:{f}").astype(np.float32) for f in self.findings], 1
        )
        self.removed = dict(sum((Counter(p.about["removed"]) for p in parts), Counter[str]()))
        self.fingerprint = hashlib.sha256("".join(p.about["fingerprint"] for p in parts).encode()).hexdigest()
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
        gaps: NDArray[np.float32] = part.gaps[self._first[i] : self._first[i] + self.lengths[i]].copy()
        gaps[:1] = 0.0  # the frame before may be one that only another sequence of the patient has
        return gaps

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


def _column(parts: list[_Part], name: str) -> NDArray[Any]:
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
            found = (
                "no label" if len(classes) == 0 else f"only {'positive' if classes[0] else 'negative'} ones"
            )
            raise DataError(
                f"{site}: {finding}: found {found} among {n_patients} training patients, expected both "
                "classes"
            )
