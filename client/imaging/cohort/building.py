"""Building a cohort: every sequence decoded and written once, or taken over from the cohort before."""

import hashlib
import hmac
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
from pyarrow import feather

from client.imaging.cohort.reading import FORMAT, RULES, Part, pseudonym
from client.imaging.decoding import Decoded, decode
from client.imaging.deidentify import scan
from client.imaging.frames import Frame, Image
from client.imaging.outcome import Reason, Tally
from client.imaging.pixels import DicomPixels
from client.imaging.sequence import Collection, Sequence
from common.arrays import Pixels
from common.attributes import ATTRIBUTES
from common.errors import DataError
from common.plan import Input, canonical_json
from common.progress import follow


def build_cohort(
    folder: Path, collection: Collection, contract: Input, findings: tuple[str, ...], key: bytes, stamp: str,
    *, forgotten: Set[str] = frozenset(),
) -> None:  # fmt: skip
    """Decode every sequence and write the cohort into `folder`, replacing what is there.

    Args:
        key: secret of the site behind the pseudonyms.
        stamp: fingerprint of the sources, see `is_current`.
        forgotten: pseudonyms of patients who are left out.

    Raises:
        DataError: an identifier is in the finished cohort; what was there before stays.
    """
    tally = collection.tally
    wanted = [(pseudonym(s.patient, key), s) for s in collection.sequences]
    tally.add(Reason.FORGOTTEN, len({p for p, _ in wanted} & forgotten))
    wanted = sorted(((p, s) for p, s in wanted if p not in forgotten), key=lambda pair: pair[0])
    patients = {p: [s for _, s in pairs] for p, pairs in groupby(wanted, key=lambda pair: pair[0])}
    tokens = {f.image: _token(f.image, key) for s in collection.sequences for f in s.frames}
    known = _known(tokens, folder, contract)

    def write(building: Path) -> None:
        with (building / "frames.bin").open("wb") as file:
            writer = _Writer(file, contract, tokens, tally)
            decoded = decode(list(patients.values()), contract, tally, known)
            for patient, one in zip(patients, follow(decoded, "patients", len(patients)), strict=True):
                writer.add(patient, one)
        frames = _frame_table(writer.gaps, writer.tokens, writer.notes)
        _write_tables(building, frames, _sequence_table(writer.rows, findings))
        made = {
            "input": contract.model_dump(mode="json"), "findings": list(findings), "stamp": stamp,
            "n_frames": len(writer.gaps), "skipped": tally.as_dict(),
            "removed": dict(sorted(collection.removed.items())),
        }  # fmt: skip
        _write_state(building, {"format": FORMAT, "rules": RULES, **made})
        _require_nameless(building, collection)

    building = folder.with_name(f".{folder.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    _replace(folder, building, write)


def _require_nameless(building: Path, collection: Collection) -> None:
    names = {s.patient.lower() for s in collection.sequences} | collection.identifiers
    if places := scan(building, names):
        raise DataError(
            f"the cohort would hold an identifier ({', '.join(places)}); it was not made. Please report this"
        )


@dataclass(frozen=True)
class _Row:
    """One sequence of the table."""

    patient: str
    first: int
    n_frames: int
    sequence: Sequence


@dataclass
class _Writer:
    """Writes frames one after another; an image that several sequences of a patient share is written once."""

    file: BinaryIO
    contract: Input
    token_of: Mapping[Image, bytes]
    tally: Tally
    gaps: list[float] = field(default_factory=list)
    tokens: list[bytes] = field(default_factory=list)
    notes: list[list[str]] = field(default_factory=list)
    rows: list[_Row] = field(default_factory=list)

    def add(self, patient: str, decoded: Decoded) -> None:
        """One patient: the frames that some sequence uses, and a row for each sequence that has enough of
        them."""
        used = [
            (s, frames) for s in decoded.sequences if (frames := decoded.usable(s, self.contract, self.tally))
        ]
        numbers = self._write(list(dict.fromkeys(f for _, frames in used for f in frames)), decoded.pixels)
        for sequence, frames in used:
            first = numbers[frames[0]]
            assert [numbers[f] for f in frames] == list(
                range(first, first + len(frames))
            )  # their order is one
            self.rows.append(_Row(patient, first, len(frames), sequence))

    def _write(self, frames: list[Frame], pixels: Mapping[Image, Pixels]) -> dict[Frame, int]:
        """Append the frames; which number each has in the file."""
        numbers: dict[Frame, int] = {}
        previous: float | None = None
        for frame in frames:
            numbers[frame] = len(self.gaps)
            self.gaps.append(0.0 if previous is None else frame.position - previous)
            self.tokens.append(self.token_of[frame.image])
            noted = self.tally.noted.get(frame.path, ()) if frame.path else ()
            self.notes.append(sorted(reason.name.lower() for reason in noted))
            self.file.write(pixels[frame.image].tobytes())
            previous = frame.position
        return numbers


def _token(image: Image, key: bytes) -> bytes:
    """Which file, of what time and size, a DICOM image came from: a keyed hash, which tells nothing without
    the key."""
    if not isinstance(image, DicomPixels):
        return b""
    try:
        state = image.path.stat()
    except OSError:
        return b""
    text = f"{image.path.resolve()}\0{image.frame}\0{state.st_size}\0{state.st_mtime_ns}"
    return hmac.new(key, text.encode(errors="surrogateescape"), hashlib.sha256).digest()[:16]


def _known(tokens: Mapping[Image, bytes], folder: Path, contract: Input) -> dict[Image, Pixels]:
    """Images that the cohort in `folder` holds already, if it was made by the same rules for the same
    contract."""
    try:
        part = Part.open(folder)
    except DataError:
        return {}
    made_by = part.description.get("rules"), part.description["input"]
    if made_by != (RULES, contract.model_dump(mode="json")):
        return {}
    number = {token: i for i, token in enumerate(part.tokens) if token}
    return {image: part.frames[number[token]] for image, token in tokens.items() if token in number}


def _sequence_table(rows: list[_Row], findings: tuple[str, ...]) -> pa.Table:
    columns: dict[str, pa.Array] = {
        "patient": pa.array([r.patient for r in rows], pa.string()),
        "first": pa.array([r.first for r in rows], pa.int64()),
        "n_frames": pa.array([r.n_frames for r in rows], pa.int64()),
        **{name: pa.array([getattr(r.sequence, name) for r in rows], pa.string()) for name in ATTRIBUTES},
    }
    for k, finding in enumerate(findings):
        columns[f"label:{finding}"] = pa.array([float(r.sequence.labels[k]) for r in rows], pa.float32())
    return pa.table(columns)


def remove_patient(folder: Path, patient: str) -> tuple[int, int]:
    """Write a cohort anew without one patient (a pseudonym): how many sequences and frames went. Raises
    DataError as `open`."""
    part = Part.open(folder)
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
        kept = np.flatnonzero(~goes).tolist()
        frames = _frame_table(
            part.gaps[~goes].tolist(), [part.tokens[k] for k in kept], [part.notes[k] for k in kept]
        )
        _write_tables(building, frames, table.filter(pa.array(~belongs)))
        _write_state(building, {**part.description, "n_frames": int((~goes).sum())})

    # A place of its own: an ingest may be going on.
    _replace(folder, Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent)), write)
    return int(belongs.sum()), int(goes.sum())


def _replace(folder: Path, building: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill `building`, a folder beside `folder`, then put it in its place."""
    try:
        write(building)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(building, folder)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise


def _frame_table(gaps: list[float], tokens: list[bytes], notes: list[list[str]]) -> pa.Table:
    columns = {
        "gap": pa.array(gaps, pa.float32()),
        "source": pa.array(tokens, pa.binary()),
        "notes": pa.array(notes, pa.list_(pa.string())),
    }
    return pa.table(columns)


def _write_tables(building: Path, frames: pa.Table, sequences: pa.Table) -> None:
    feather.write_feather(frames, building / "frames.arrow", compression="uncompressed")
    feather.write_feather(sequences, building / "sequences.arrow", compression="uncompressed")


def _write_state(building: Path, description: dict[str, Any]) -> None:
    """cohort.json, with a fingerprint of all that training sees: equal for equal cohorts, wherever their
    files were."""
    digest = hashlib.sha256()
    with (building / "frames.bin").open("rb") as file:
        while block := file.read(2**22):
            digest.update(block)
    digest.update(feather.read_table(building / "frames.arrow")["gap"].to_numpy().tobytes())
    digest.update((building / "sequences.arrow").read_bytes())
    digest.update(canonical_json([description["input"], description["findings"]]).encode())
    text = json.dumps({**description, "fingerprint": digest.hexdigest()}, indent=2)
    (building / "cohort.json").write_text(text + "\n", encoding="utf-8")


def stamp_of(fingerprint: str, contract: Input, findings: tuple[str, ...], *more: str) -> str:
    """What a cohort depends on, as one SHA-256: our rules, its sources, the input contract, the findings, and
    `more`."""
    version = [str(FORMAT), str(RULES)]
    parts = [*version, fingerprint, canonical_json(contract.model_dump(mode="json")), *findings, *more]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def is_current(folder: Path, stamp: str) -> bool:
    """Whether `folder` holds a whole cohort made from exactly what `stamp` stands for."""
    try:
        found: bool = json.loads((folder / "cohort.json").read_text(encoding="utf-8"))["stamp"] == stamp
    except (OSError, ValueError, KeyError):
        return False
    return found
