"""A MedMNIST-style .npz: arrays of images and labels."""

import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.imaging.frames import Frame, InMemory
from client.imaging.outcome import Reason, Tally
from client.imaging.sequence import Collection, Sequence
from client.imaging.tables import NOTHING, parse_number, read_table, require_key
from common.errors import DataError
from common.plan import Input
from common.text import printable

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
        if contract.label == "visit":
            raise DataError(
                f"{self.path}: its images have no visits, the plan learns labels of visits (input.label); "
                "expected DICOM files, or images with an index"
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
            if row["split"] == split and index >= n:
                raise DataError(
                    f"{where}: found the index {index:g}, {split} has {n} images; indices count from 0"
                )
            if row["split"] == split and row["patient_id"]:
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
