"""Where sequences come from: a folder of DICOM files, images with an index, or a MedMNIST-style .npz. One
result."""

import hashlib
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from client.imaging.deidentify import without_identifiers
from client.imaging.dicom import Header, HeadersOfFile
from client.imaging.frames import Frame, ImageFile, InMemory
from client.imaging.labels import Labels, parse_label, read_labels, read_rows, require_images
from client.imaging.outcome import Reason, Skipped, Tally
from client.imaging.reader import headers_of, patients_of
from client.imaging.sequence import Collection, Sequence, choose, episodes, order_headers, sequence_of
from common.errors import DataError
from common.plan import Input


class Source(Protocol):
    """Something that holds patients' images and labels."""

    def files(self) -> list[Path]:
        """Every file whose change makes a cohort stale."""
        ...

    def read(self, contract: Input, findings: tuple[str, ...]) -> Collection:
        """All sequences with a known label, in an order of their own; pixels are not read yet."""
        ...


def fingerprint(source: Source) -> str:
    """SHA-256 over names, sizes and times of change: cheap, and different when any file is."""
    digest = hashlib.sha256(type(source).__name__.encode())
    for path in source.files():
        stat = path.stat()
        digest.update(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


@dataclass(frozen=True)
class DicomFolder:
    """A folder with DICOM files at any depth, and a table of labels (default: `labels.csv` or
    `labels.parquet` in it)."""

    path: Path
    labels: Path | None = None

    @property
    def labels_path(self) -> Path:
        beside = (self.path / f"labels{suffix}" for suffix in (".csv", ".parquet"))
        return self.labels or next((p for p in beside if p.is_file()), self.path / "labels.csv")

    def files(self) -> list[Path]:
        return [*_walk(self.path), *([self.labels] if self.labels else [])]

    def read(self, contract: Input, findings: tuple[str, ...]) -> Collection:
        labels = read_labels(self.labels_path, findings)
        tally, removed, identifiers = Tally(), Counter[str](), set[str]()
        patients: dict[str, list[Header]] = defaultdict(list)
        for file in _headers_in(self.path, contract, tally):
            patients[file.images[0].patient] += file.images
            removed.update(file.removed)
            identifiers |= file.identifiers
        require_images(
            labels, {str(getattr(h, labels.key)) for headers in patients.values() for h in headers}, tally
        )
        known = labels.known()
        sequences = [
            s
            for patient in sorted(patients)
            for s in _sequences(patients[patient], labels, known, contract, tally)
        ]
        scanners = {text: without_identifiers(text, identifiers) for text in {s.scanner for s in sequences}}
        sequences = [replace(s, scanner=scanners[s.scanner]) for s in sequences]
        return Collection(sequences, tally, removed, frozenset(identifiers))


def _headers_in(path: Path, contract: Input, tally: Tally) -> Iterator[HeadersOfFile]:
    """What the DICOM files of a folder (or one file) say, those of the contract's modality; the others are
    counted."""
    paths = [path] if path.is_file() else [p for p in _walk(path) if not _is_beside(p)]
    for file, found in zip(paths, headers_of(paths, contract.modality), strict=True):
        if isinstance(found, Skipped):
            tally.add_files(found.reason, [file])
        else:
            tally.add_files(Reason.BURNT_IN, [file] * found.images[0].burnt_in)
            yield found


def patients_in(path: Path, contract: Input, tally: Tally) -> dict[str, list[Header]]:
    """Each patient's images in order, of a folder of DICOM files or one file, without labels: what a
    prediction is about. Patients without an image that belongs are left out, and their files counted."""
    patients: dict[str, list[Header]] = defaultdict(list)
    for file in _headers_in(path, contract, tally):
        patients[file.images[0].patient] += file.images
    ordered = {
        patient: order_headers(patients[patient], contract.modality, tally) for patient in sorted(patients)
    }
    return ordered


def _sequences(
    headers: list[Header], labels: Labels, known: Set[str], contract: Input, tally: Tally
) -> Iterator[Sequence]:
    """One patient's sequences: one for each label that is `known`."""
    known = {name for h in headers if (name := str(getattr(h, labels.key))) in known}
    if not known:
        tally.add(Reason.UNLABELLED)
        return
    for key, ordered in episodes(headers, labels.key, known, contract.modality, tally).items():
        if ordered:
            yield sequence_of(ordered, labels.values[key], contract)
        else:
            tally.add(Reason.NO_FRAMES)


@dataclass(frozen=True)
class ImageIndex:
    """Images (PNG, JPEG, TIFF) named by an index CSV: patient, file, day or order, and one column a finding.

    `columns` maps these names to the ones that the file uses. A single finding may stand in a column `label`.
    With `order` instead of `day`, frames lie one unit apart.
    """

    path: Path
    columns: Mapping[str, str] = field(default_factory=dict)

    def files(self) -> list[Path]:
        if not self.path.is_file():
            raise DataError(f"{self.path}: no such file; expected an index CSV")
        named = {
            self.path.parent / row.get(self._column("file"), "")
            for row in read_rows(self.path, [self._column("file")])
        }
        return [self.path, *sorted(p for p in named if p.is_file())]

    def read(self, contract: Input, findings: tuple[str, ...]) -> Collection:
        patient, file = self._column("patient"), self._column("file")
        rows = read_rows(self.path, (patient, file))
        place = self._place_column(rows)
        tally, by_patient = Tally(), defaultdict(list)
        for number, row in enumerate(rows, start=2):
            if not row[patient]:
                tally.add(Reason.NO_PATIENT)
            elif (position := _number(row[place])) is None:
                tally.add(Reason.NO_POSITION)
            else:
                where = f"{self.path}, row {number}"
                by_patient[row[patient]].append((position, row[file], self._labels(row, findings, where)))
        return Collection(
            [s for p in sorted(by_patient) if (s := self._sequence(p, by_patient[p], contract, tally))], tally
        )

    def _sequence(
        self, patient: str, rows: list[tuple[float, str, NDArray[np.float32]]], contract: Input, tally: Tally
    ) -> Sequence | None:
        rows.sort(key=lambda r: r[:2])
        labels = rows[0][2]
        if any(not np.array_equal(labels, other, equal_nan=True) for _, _, other in rows):
            raise DataError(
                f"{self.path}: one patient's rows have different labels; a sequence has one label a finding"
            )
        if np.isnan(labels).all():
            tally.add(Reason.UNLABELLED)
            return None
        kept = [rows[i] for i in choose(len(rows), contract.max_frames, contract.modality)]
        frames = tuple(Frame(r[0] - kept[0][0], ImageFile(self.path.parent / r[1])) for r in kept)
        return Sequence(patient, frames, labels)

    def _column(self, name: str) -> str:
        return self.columns.get(name, name)

    def _place_column(self, rows: list[dict[str, str]]) -> str:
        for name in (self._column("day"), self._column("order")):
            if rows and name in rows[0]:
                return name
        raise DataError(
            f"{self.path}: expected a column 'day' or 'order' that puts a patient's images in order"
        )

    def _labels(self, row: dict[str, str], findings: tuple[str, ...], where: str) -> NDArray[np.float32]:
        columns = [self._column(f) for f in findings]
        if len(findings) == 1 and columns[0] not in row:
            columns = [self._column("label")]
        if missing := [c for c in columns if c not in row]:
            raise DataError(f"{self.path}: the column {missing[0]!r} is missing; found {', '.join(row)}")
        return np.array([parse_label(row[c], where) for c in columns], dtype=np.float32)


@dataclass(frozen=True)
class NpzFile:
    """A MedMNIST-style .npz: `{split}_images` and `{split}_labels`, or `images`, `labels` and `patient_id`.

    Every image is a sequence of one: such sets have no dates, and the number of a patient's images can give
    the label away. Images of one patient stay on one side of a split. Patients come from `patient_id` in the
    file, or from a map CSV (`split`, `index`, `patient_id`; default `patient_map.csv` beside it); an image
    without one is left out, and where there is no map at all each image counts as a patient.
    """

    path: Path
    patients: Path | None = None
    splits: tuple[str, ...] = ("train", "val")

    @property
    def _map(self) -> Path | None:
        beside = self.path.parent / "patient_map.csv"
        return self.patients or (beside if beside.is_file() else None)

    def files(self) -> list[Path]:
        if not self.path.is_file():
            raise DataError(
                f"{self.path}: no such file; expected an .npz (give it by --set data.path=FILE.npz)"
            )
        return [self.path, *([self._map] if self._map else [])]

    def read(self, contract: Input, findings: tuple[str, ...]) -> Collection:
        if len(findings) != 1:
            raise DataError(f"{self.path}: holds one finding, the plan names {len(findings)}")
        if contract.min_frames > 1:
            raise DataError(
                f"{self.path}: its sequences have one image each, the plan asks for {contract.min_frames} "
                "(input.min_frames)"
            )
        tally, sequences = Tally(), []
        for images, labels, patients in self._parts():
            for image, label, patient in zip(images, labels, patients, strict=True):
                if not patient:
                    tally.add(Reason.NO_PATIENT)
                else:
                    frame = Frame(0.0, InMemory(image))
                    sequences.append(Sequence(str(patient), (frame,), np.array([label], dtype=np.float32)))
        return Collection(sequences, tally)

    def _parts(self) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.str_]]]:
        self.files()
        try:
            with np.load(self.path, allow_pickle=False) as npz:
                keys = (
                    [("images", "labels")]
                    if "images" in npz
                    else [(f"{s}_images", f"{s}_labels") for s in self.splits]
                )
                for (images_key, labels_key), split in zip(keys, self.splits, strict=False):
                    images, labels = npz[images_key], npz[labels_key].reshape(-1)
                    if images.ndim != 3 or images.dtype != np.uint8 or len(images) != len(labels):
                        raise DataError(
                            f"{self.path}: found {images_key} {images.dtype} {images.shape}, expected grey "
                            "uint8 (N, H, W)"
                        )
                    if not np.isin(labels, (0, 1)).all():
                        raise DataError(f"{self.path}: found labels other than 0 and 1 in {labels_key}")
                    yield images, labels, self._patients(npz, split, len(images))
        except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as e:
            raise DataError(
                f"{self.path}: not an .npz of images and labels: {type(e).__name__}: {e}"
            ) from None

    def _patients(self, npz: Mapping[str, NDArray[np.generic]], split: str, n: int) -> NDArray[np.str_]:
        if "patient_id" in npz:
            return npz["patient_id"].astype(np.str_)
        if self._map is None:
            return np.array([f"{split}-{i}" for i in range(n)])
        patients = np.full(n, "", dtype="<U128")
        for row in read_rows(self._map, ("split", "index", "patient_id")):
            if row["split"] == split and (i := _number(row["index"])) is not None and 0 <= i < n:
                patients[int(i)] = row["patient_id"]
        return patients


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def files_of_patient(folder: Path, patient: str) -> list[Path]:
    """The DICOM files below `folder` with this Patient ID, of whatever modality."""
    paths = [p for p in _walk(folder) if not _is_beside(p)]
    return [path for path, found in zip(paths, patients_of(paths), strict=True) if found == patient]


def _is_beside(path: Path) -> bool:
    """Tables, notes and directories of the files, which are not counted as files that could not be read."""
    return (
        path.suffix.lower() in (".csv", ".parquet", ".json", ".md", ".txt") or path.name.upper() == "DICOMDIR"
    )


def _walk(root: Path) -> list[Path]:
    """Every file below `root`, sorted, hidden ones left out. Raises DataError if `root` is no folder."""
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected DICOM files and labels.csv")
    found = (p for p in root.rglob("*") if p.is_file())
    return sorted(p for p in found if not any(part.startswith(".") for part in p.relative_to(root).parts))
