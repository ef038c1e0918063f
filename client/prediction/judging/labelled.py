"""Labelled patients from wherever they lie, as a cohort for the model's contract; and which of them it may be
judged on.

A part is the plan's own split where the patients are those of the run (a cohort, a site's own images, a
simulation's data), and the arrays of that name in a MedMNIST-style file. Of other data every patient is new
to the model so far as is known: then all of them are judged.
"""

import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from client.imaging.cohort import Cohort, build_cohort, is_cohort
from client.imaging.sources import DicomFolder, ImageIndex, NpzFile, Source
from client.prediction.cases import open_cohort
from client.prediction.parts import is_own, own_key
from client.settings import SiteFolder
from common.errors import DataError
from common.handover import Handed

Part = Literal["test", "validation", "all"]
NPZ_PARTS = {"train": "train", "validation": "val", "test": "test"}


@dataclass(frozen=True)
class Labelled:
    """Sequences that a model is judged on."""

    cohort: Cohort
    indices: NDArray[np.intp]
    n_training: int | None
    """Patients among them whom the run's plan puts into training; None where nobody can know."""
    part: Part
    """What was asked for; "all" where no split parts the patients of this place."""


@dataclass(frozen=True)
class Place:
    """Where labelled patients lie."""

    path: Path
    labels: Path | None = None
    """A table of labels beside DICOM files; labels.csv in the folder if left out."""
    site: SiteFolder | None = None
    """Whose images they are: its secret tells the plan's split."""
    key: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    """Behind the pseudonyms for a model of whose run the patients are not."""


def read_part(handed: Handed, place: Place, part: Part, work: Path) -> Labelled:
    """The patients of a part. What must be decoded for it is written below `work`.

    Raises:
        DataError: there is no labelled sequence that the model takes, or no such part.
    """
    if is_cohort(place.path):
        cohort = open_cohort(handed, place.path)
        if cohort.findings != handed.plan.findings:
            told, wanted = ", ".join(cohort.findings), ", ".join(handed.plan.findings)
            raise DataError(f"{place.path}: labels {told}; the model knows {wanted}")
        if not is_own(handed, place.path, place.site):
            return _some(cohort, np.arange(len(cohort)), None, "all", place.path)
        return _by_plan(cohort, handed, part)
    own = is_own(handed, place.path, place.site)
    source = _source(handed, place, part, own)
    cohort = _build(handed, place, source, own, work)
    if own and not _has_own_test(source):
        return _by_plan(cohort, handed, part)
    named = part if isinstance(source, NpzFile) and source.splits else "all"
    return _some(cohort, np.arange(len(cohort)), 0 if own else None, named, place.path)


def _by_plan(cohort: Cohort, handed: Handed, part: Part) -> Labelled:
    split = cohort.split(handed.plan.split)
    training = len(set(cohort.patients[split["train"]]))
    if part == "all":
        return _some(cohort, np.arange(len(cohort)), training, part, None)
    return _some(cohort, split[part], 0, part, None)


def _some(
    cohort: Cohort, indices: NDArray[np.intp], n_training: int | None, part: Part, path: Path | None
) -> Labelled:
    if len(indices) == 0:
        where = f"{path}: " if path else ""
        left_out = "; ".join(f"{n} {why.replace('_', ' ')}" for why, n in cohort.tally.left_out().items())
        raise DataError(
            f"{where}no labelled sequence of this part that the model takes; left out: {left_out or 'none'}"
        )
    return Labelled(cohort, indices, n_training, part)


def _source(handed: Handed, place: Place, part: Part, own: bool) -> Source:
    path = place.path
    if path.suffix == ".npz":
        return _npz(path, part, own)
    if path.is_file() and path.suffix == ".csv":
        return ImageIndex(path)
    if (path / "index.csv").is_file():
        return ImageIndex(path / "index.csv")
    if not path.is_dir():
        raise DataError(f"{path}: no such cohort, folder of DICOM files, folder with index.csv, or .npz")
    told = place.site.settings().data.labels if place.site and not place.labels else None
    return DicomFolder(path, Path(told).expanduser() if told else place.labels)


def _npz(path: Path, part: Part, own: bool) -> NpzFile:
    """The arrays of a part. A simulation trains on `train` and `val` together, and splits those by
    patient."""
    there = NpzFile(path).parts()
    if not there:  # one set of arrays, without parts
        return NpzFile(path)
    if part == "all":
        return NpzFile(path, splits=tuple(there))
    wanted = NPZ_PARTS[part]
    if own and (part == "validation" or wanted not in there):
        return NpzFile(path)
    if wanted not in there:
        raise DataError(
            f"{path}: holds {', '.join(there)}; expected the arrays {wanted}_images and {wanted}_labels"
        )
    return NpzFile(path, splits=(wanted,))


def _has_own_test(source: Source) -> bool:
    """Arrays that no run trains on."""
    return isinstance(source, NpzFile) and source.splits == (NPZ_PARTS["test"],)


def _build(handed: Handed, place: Place, source: Source, own: bool, work: Path) -> Cohort:
    key = own_key(handed, place.site) if own else place.key
    plan = handed.plan
    build_cohort(work, source.read(plan.input, plan.findings), plan.input, plan.findings, key, "")
    return Cohort.open(work)
