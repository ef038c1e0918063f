"""Where sequences come from: a folder of DICOM files, images with an index, or a MedMNIST-style .npz. One
result."""

import hashlib
import os
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from client.imaging.deidentify import without_identifiers
from client.imaging.dicom import Header, HeadersOfFile
from client.imaging.facts.person import are_several
from client.imaging.frames import Frame, ImageFile, InMemory
from client.imaging.labels import Forgotten, Known, Labels, nobody, parse_label, read_labels, require_images
from client.imaging.outcome import Reason, Skipped, Tally, log_files
from client.imaging.reader import headers_of, patients_of
from client.imaging.sequence import Collection, Sequence, choose, episodes, order_headers, sequence_of
from client.imaging.tables import NOTHING, Table, parse_day, parse_number, read_table, require_key
from common.errors import DataError
from common.plan import Input
from common.progress import follow
from common.text import printable


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
    `labels.parquet` in it), which may name people who asked to be left out."""

    path: Path
    labels: Path | None = None
    is_forgotten: Forgotten = nobody

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
        unusable: list[str] = []
        for file in _headers_in(self.path, contract, tally):
            if isinstance(file, Skipped):
                if file.reason != Reason.NOT_DICOM:
                    unusable.append(getattr(file.owner, labels.key))
                continue
            patients[file.images[0].patient] += file.images
            removed.update(file.removed)
            identifiers |= file.identifiers
        images = [h for headers in patients.values() for h in headers]
        seen = {(h.patient, str(getattr(h, labels.key))) for h in images}
        require_images(labels, seen, unusable, tally, self.is_forgotten)
        shared = _shared_keys(images, labels, tally)
        sequences = [
            s
            for patient, headers in _single_people(patients, tally).items()
            for s in _sequences(headers, labels.of(patient, shared), labels.key, contract, tally)
        ]
        scanners = {text: without_identifiers(text, identifiers) for text in {s.scanner for s in sequences}}
        sequences = [replace(s, scanner=scanners[s.scanner]) for s in sequences]
        return Collection(sequences, tally, removed, frozenset(identifiers))


def _headers_in(path: Path, contract: Input, tally: Tally) -> Iterator[HeadersOfFile | Skipped]:
    """What the DICOM files of a folder (or one file) say, those of the contract's modality; the others are
    counted, too."""
    paths = [path] if path.is_file() else [p for p in _walk(path) if not _is_beside(p)]
    read = follow(headers_of(paths, contract.modality), "reading headers", len(paths))
    for file, found in zip(paths, read, strict=True):
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
        if not isinstance(file, Skipped):
            patients[file.images[0].patient] += file.images
    return {
        patient: order_headers(headers, contract.modality, tally)
        for patient, headers in _single_people(patients, tally).items()
    }


def _single_people(patients: Mapping[str, list[Header]], tally: Tally) -> dict[str, list[Header]]:
    """Patient ID -> its images, without IDs that stand for two people: nobody can say whose label it is."""
    single = {}
    for patient in sorted(patients):
        if are_several(h.person for h in patients[patient]):
            tally.add(Reason.TWO_PEOPLE)
            log_files(Reason.TWO_PEOPLE, (h.path for h in patients[patient]))
        else:
            single[patient] = patients[patient]
    return single


def _shared_keys(images: Iterable[Header], labels: Labels, tally: Tally) -> Set[str]:
    """Studies or accession numbers that several patients have, where the table does not say whose it means:
    numbers start anew with each issuer, and some each year."""
    if labels.key == "patient":
        return set()
    owners: dict[str, set[str]] = defaultdict(set)
    files: dict[str, list[Path]] = defaultdict(list)
    for h in images:
        owners[str(getattr(h, labels.key))].add(h.patient)
        files[str(getattr(h, labels.key))].append(h.path)
    shared = {key for key, patients in owners.items() if len(patients) > 1 and not labels.names_owner(key)}
    for key in sorted(shared):
        tally.add(Reason.KEY_SHARED, len(owners[key]))
        log_files(Reason.KEY_SHARED, files[key])
    return shared


def _sequences(
    headers: list[Header], labels: Mapping[str, Known], by: str, contract: Input, tally: Tally
) -> Iterator[Sequence]:
    """One patient's sequences: one for each of the patient's `labels` that has an image; `by` is what they
    are about."""
    known = {name for h in headers if (name := str(getattr(h, by))) in labels}
    if not known:
        tally.add(Reason.UNLABELLED)
        return
    sequences = episodes(headers, by, known, contract.modality, tally)
    for key in sorted(known - sequences.keys()):
        tally.add(Reason.NO_FRAMES)
        log_files(Reason.NO_FRAMES, [next(h.path for h in headers if str(getattr(h, by)) == key)])
    for key, ordered in sequences.items():
        if ordered:
            yield sequence_of(ordered, labels[key], contract)
        else:
            tally.add(Reason.NO_FRAMES)


@dataclass(frozen=True)
class _Row:
    """An image of an index."""

    place: tuple[float, float]  # day and, on one day, order
    file: str
    labels: NDArray[np.float32]
    number: int  # of the row


@dataclass(frozen=True)
class ImageIndex:
    """Images (PNG, JPEG, TIFF) named by an index CSV: patient, file, day or order, and one column a finding.

    `columns` maps these names to the ones that the file uses. A single finding may stand in a column `label`.
    With `order` instead of `day`, frames lie one unit apart; with both, `order` is that of one day.
    """

    path: Path
    columns: Mapping[str, str] = field(default_factory=dict)
    labelled: bool = True
    """Whether labels are asked for; without, none is looked at."""

    def files(self) -> list[Path]:
        if not self.path.is_file():
            raise DataError(f"{self.path}: no such file; expected an index CSV")
        column = self._column("file")
        named = {self.path.parent / row[column] for _, row in read_table(self.path, [column]).rows}
        return [self.path, *sorted(p for p in named if p.is_file())]

    def read(self, contract: Input, findings: tuple[str, ...]) -> Collection:
        patient, file = self._column("patient"), self._column("file")
        table = read_table(self.path, (patient, file))
        place = self._place_column(table)
        tally, by_patient, dated = Tally(), defaultdict(list), set[bool]()
        order = self._column("order")
        rows = dict[tuple[str, ...], int]()
        for number, row in table.rows:
            where = table.where(number)
            if not row[patient]:
                tally.add(Reason.NO_PATIENT)
            elif rows.setdefault(tuple(row.values()), number) != number:
                tally.add(Reason.DUPLICATE)
            elif not row[place]:
                tally.add(Reason.NO_POSITION)
            else:
                position, is_date = parse_day(row[place], where)
                dated.add(is_date)
                if len(dated) > 1:
                    raise DataError(
                        f"{where}: found numbers and dates in the column {place!r}; expected one kind"
                    )
                after = parse_number(row[order], where) if place != order and row.get(order) else 0.0
                name = require_key(row[patient], "patient", where)
                by_patient[name].append(
                    _Row((position, after), row[file], self._labels(row, findings, where), number)
                )
        return Collection(
            [s for p in sorted(by_patient) if (s := self._sequence(p, by_patient[p], contract, tally))], tally
        )

    def _sequence(self, patient: str, rows: list[_Row], contract: Input, tally: Tally) -> Sequence | None:
        rows.sort(key=lambda row: (row.place, row.file))
        files = Counter(row.file for row in rows)
        if twice := [row.number for row in rows if files[row.file] > 1]:
            raise DataError(
                f"{self.path}: rows {twice[0]} and {twice[1]} have the same file at two places; remove one"
            )
        tally.add(
            Reason.ORDER_UNSURE,
            sum(n for n in Counter(row.place for row in rows).values() if n > 1),
        )
        labels = rows[0].labels
        if any(not np.array_equal(labels, row.labels, equal_nan=True) for row in rows):
            raise DataError(
                f"{self.path}: one patient's rows have different labels; a sequence has one label a finding"
            )
        if self.labelled and np.isnan(labels).all():
            tally.add(Reason.UNLABELLED)
            return None
        kept = [rows[i] for i in choose(len(rows), contract.max_frames, contract.modality)]
        first = kept[0].place[0]
        frames = tuple(Frame(row.place[0] - first, ImageFile(self.path.parent / row.file)) for row in kept)
        return Sequence(patient, frames, labels)

    def _column(self, name: str) -> str:
        return self.columns.get(name, name)

    def _place_column(self, table: Table) -> str:
        for name in (self._column("day"), self._column("order")):
            if name in table.columns:
                return name
        raise DataError(
            f"{self.path}: expected a column 'day' or 'order' that puts a patient's images in order"
        )

    def _labels(self, row: dict[str, str], findings: tuple[str, ...], where: str) -> NDArray[np.float32]:
        if not self.labelled:
            return np.full(len(findings), np.nan, np.float32)
        columns = [self._column(f) for f in findings]
        if len(findings) == 1 and columns[0] not in row:
            columns = [self._column("label")]
        if missing := [c for c in columns if c not in row]:
            raise DataError(f"{self.path}: the column {missing[0]!r} is missing; found {', '.join(row)}")
        return np.array([parse_label(row[c], where) for c in columns], dtype=np.float32)


PARTS = ("train", "val", "test")
"""Of MedMNIST's files."""


@dataclass(frozen=True)
class NpzFile:
    """A MedMNIST-style .npz: `{split}_images` and `{split}_labels`, or `images`, `labels` and `patient_id`.

    Every image is a sequence of one: such sets have no dates, and the number of a patient's images can give
    the label away. Images of one patient stay on one side of a split. Patients come from `patient_id` in the
    file, or from a map CSV (`split`, `index`, `patient_id`; default `patient_map.csv` beside it); an image
    without one is left out, and where there is no map, or none of this part, each image counts as a patient.
    """

    path: Path
    patients: Path | None = None
    splits: tuple[str, ...] = ("train", "val")

    def parts(self) -> list[str]:
        """Which of MedMNIST's parts it holds; none if it is one set of `images`. Raises DataError."""
        self.files()
        try:
            with np.load(self.path, allow_pickle=False) as npz:
                return [part for part in PARTS if f"{part}_images" in npz]
        except (ValueError, OSError, EOFError, zipfile.BadZipFile) as e:
            raise DataError(f"{self.path}: not an .npz of images and labels: {type(e).__name__}") from None

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
            return _patient_ids(npz["patient_id"], n, self.path)
        if self._map is None:
            return np.array([f"{split}-{i}" for i in range(n)])
        patients = np.full(n, "", dtype="<U128")
        table = read_table(self._map, ("split", "index", "patient_id"))
        for number, row in table.rows:
            if row["split"] not in PARTS:
                found, where = printable(row["split"], 40), table.where(number)
                raise DataError(f"{where}: found the split {found!r}, expected {', '.join(PARTS)}")
        if all(row["split"] != split for _, row in table.rows):  # the map is of the other parts
            return np.array([f"{split}-{i}" for i in range(n)])
        for number, row in table.rows:
            where = table.where(number)
            index = parse_number(row["index"], where)
            if not index.is_integer() or index < 0:
                raise DataError(f"{where}: found the index {index:g}, expected a whole number from 0")
            if row["split"] == split and index < n and row["patient_id"]:
                named, before = require_key(row["patient_id"], "patient_id", where), patients[int(index)]
                if before not in ("", named):
                    raise DataError(f"{where}: names another patient than a row before; remove one")
                patients[int(index)] = named
        return patients


def _patient_ids(ids: NDArray[np.generic], n: int, path: Path) -> NDArray[np.str_]:
    """As text: 3.0 is 3, and what is not a number is nobody."""
    if ids.shape != (n,):
        raise DataError(
            f"{path}: found patient_id {ids.shape}, expected one an image ({n}); with several "
            "splits, name patients in a patient_map.csv"
        )
    if np.issubdtype(ids.dtype, np.floating):
        return np.array(
            ["" if x != x else f"{x:g}" if x != int(x) else str(int(x)) for x in ids.tolist()], np.str_
        )
    texts = (x.decode("utf-8", "replace") if isinstance(x, bytes) else str(x) for x in ids.tolist())
    return np.array(["" if x.strip().lower() in NOTHING else x.strip() for x in texts], np.str_)


def files_of_patient(folder: Path, patient: str, hidden: bool = False) -> list[Path]:
    """The DICOM files below `folder` with this Patient ID, of whatever modality; also `hidden` ones."""
    paths = [p for p in _walk(folder, hidden) if not _is_beside(p)]
    owners = follow(patients_of(paths), "looking for the patient", len(paths))
    return [path for path, found in zip(paths, owners, strict=True) if found == patient]


def _is_beside(path: Path) -> bool:
    """Tables, notes and directories of the files, which are not counted as files that could not be read."""
    return (
        path.suffix.lower() in (".csv", ".parquet", ".json", ".md", ".txt") or path.name.upper() == "DICOMDIR"
    )


def _walk(root: Path, hidden: bool = False) -> list[Path]:
    """Every file below `root`, also in folders that it links to, sorted; those that are or lie in `hidden`
    ones left out otherwise. Raises DataError if `root` is no folder, or one of them cannot be listed."""
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected DICOM files and labels.csv")

    def refuse(error: OSError) -> None:
        what = f"{error.filename}: cannot be listed: {error.strerror}"
        raise DataError(f"{what}; what is in it would be missing")

    found: list[Path] = []
    walked: set[tuple[int, int]] = set()
    for folder, folders, files in os.walk(root, onerror=refuse, followlinks=True):
        state = os.stat(folder)
        if (state.st_dev, state.st_ino) in walked:  # a link to a folder above, or to one that was there
            folders.clear()
            continue
        walked.add((state.st_dev, state.st_ino))
        if not hidden:
            folders[:] = [name for name in folders if not name.startswith(".")]
            files = [name for name in files if not name.startswith(".")]
        found += (path for name in files if not _is_special(path := Path(folder, name)))
    return sorted(found)


def _is_special(path: Path) -> bool:
    """A pipe, say, which nobody can read to its end. A link to nothing is a file that cannot be read."""
    return path.exists() and not path.is_file()
