"""Synthetic hospitals: serial chest X-rays as valid DICOM, with known truth.

Two kinds of patients, as in the source document. *Obvious*: one image suffices, a large opacity or a clear
chest. *Ambiguous*: each patient has one small opacity, and only its evolution tells. In pneumonia it grows; a
scar stays as it is; a healing one shrinks. Sizes in the last image overlap, and a shrinking opacity read
backwards is a growing one, so neither the last image nor any summary that forgets the order can tell them
apart surely (see `bounds` in the tests). This kind (*growth*) does not prove that time is used: those that
grow begin small, and a reader of the *first* image knows it. *Trend* and *relapse* do (simulation/course.py):
their best readers are known, and who forgets the order knows nothing.

Lengths are in units of the image's side, times in days.
"""

import csv
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid

from common.seeds import derive_seed, numpy_generator
from simulation.course import COURSES, Reader, optima

Image = NDArray[np.float32]


class Kind(StrEnum):
    """What is true of a patient."""

    CLEAR = "obvious-negative"
    CONSOLIDATED = "obvious-positive"
    GROWING = "ambiguous-positive"
    STABLE = "ambiguous-stable"
    HEALING = "ambiguous-healing"
    FORWARDS = "course-positive"
    BACKWARDS = "course-negative"

    @property
    def positive(self) -> bool:
        return self in (Kind.CONSOLIDATED, Kind.GROWING, Kind.FORWARDS)


Evolution = Literal["growth", "trend", "relapse"]
"""What the ambiguous patients' opacities do."""
RADIUS, DENSITY = (0.085, 0.6), (0.34, 0.4)
"""Of an opacity of log severity 0, and the power of severity that each is: both tell it."""


HEALING_SHARE = 0.45
"""Of the ambiguous negatives. With it a perfect reader of the last image reaches an AUROC of about 0.7, and
one of the unordered images about 0.77: 0.45 x 0.5 + 0.55 x 1."""


@dataclass(frozen=True)
class Scanner:
    """How a hospital's images look, and whom it sees."""

    maker: str
    model: str
    side: int  # pixels
    bits: int  # stored
    inverted: bool  # MONOCHROME1
    noise: float  # standard deviation, of the full range
    gain: float  # contrast
    blur: float  # standard deviation, pixels
    prevalence: float  # share of patients with pneumonia
    frames: tuple[int, int]  # fewest and most images of a patient


SCANNERS = (
    Scanner("Alpha Imaging", "A1", 128, 12, False, 0.020, 1.00, 0.0, 0.50, (3, 5)),
    Scanner("Beta Medical", "B-200", 160, 10, True, 0.030, 0.85, 0.8, 0.35, (3, 6)),
    Scanner("Gamma Health", "G mobile", 112, 14, False, 0.045, 0.70, 0.5, 0.60, (3, 4)),
    Scanner("Delta Systems", "D9", 144, 12, True, 0.025, 1.10, 1.0, 0.40, (4, 6)),
    Scanner("Epsilon", "E-Ray", 96, 8, False, 0.035, 0.90, 0.3, 0.55, (3, 5)),
)


@dataclass(frozen=True)
class Opacity:
    """A bright spot in a lung at one time."""

    x: float
    y: float
    radius: float
    density: float


def write_phantom(
    out: Path,
    n_sites: int,
    n_patients: int,
    seed: int,
    ambiguous: float = 0.5,
    evolution: Evolution = "growth",
) -> list[Path]:
    """Write one folder a hospital: `*.dcm`, `labels.csv` (patient, pneumonia) and `truth.csv`. Whole or not
    there.

    Args:
        n_patients: at each hospital.
        ambiguous: share of ambiguous patients; `evolution`, what theirs do.

    Returns:
        The hospitals' folders. The same arguments give the same files, byte for byte.
    """
    building = out.with_name(f".{out.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    names = [site_name(i, n_sites) for i in range(n_sites)]
    for i, name in enumerate(names):
        who = Population(name, SCANNERS[i % len(SCANNERS)], n_patients, ambiguous, evolution)
        _write_site(building / name, who, seed)
    shutil.rmtree(out, ignore_errors=True)
    building.rename(out)
    return [out / name for name in names]


def site_name(i: int, n_sites: int) -> str:
    """hospital-a … hospital-z, or hospital-01 … beyond 26."""
    return f"hospital-{chr(ord('a') + i)}" if n_sites <= 26 else f"hospital-{i + 1:0{len(str(n_sites))}d}"


@dataclass(frozen=True)
class Population:
    """One hospital's patients."""

    name: str
    scanner: Scanner
    n_patients: int
    ambiguous: float
    evolution: Evolution


def _write_site(folder: Path, who: Population, seed: int) -> None:
    name, scanner = who.name, who.scanner
    folder.mkdir(parents=True)
    with (
        (folder / "labels.csv").open("w", newline="") as labels_file,
        (folder / "truth.csv").open("w", newline="") as truth_file,
    ):
        labels, truth = (
            csv.writer(labels_file, lineterminator="\n"),
            csv.writer(truth_file, lineterminator="\n"),
        )
        labels.writerow(["patient", "pneumonia"])
        truth.writerow(["patient", "kind", "file", "day", "x", "y", "radius", "density"])
        for i in range(who.n_patients):
            rng = numpy_generator(seed, "phantom", name, i)
            patient, kind = (
                f"{name.upper()}-{i + 1:04d}",
                draw_kind(rng, scanner.prevalence, who.ambiguous, who.evolution),
            )
            labels.writerow([patient, int(kind.positive)])
            for row in _write_patient(folder, (patient, kind, who), seed, rng):
                truth.writerow([patient, kind.value, *row])


def draw_kind(
    rng: np.random.Generator, prevalence: float, ambiguous: float, evolution: Evolution = "growth"
) -> Kind:
    """One patient's truth; positives and negatives are ambiguous equally often."""
    positive, hard = rng.random() < prevalence, rng.random() < ambiguous
    if not hard:
        return Kind.CONSOLIDATED if positive else Kind.CLEAR
    if evolution != "growth":
        return Kind.FORWARDS if positive else Kind.BACKWARDS
    if positive:
        return Kind.GROWING
    return Kind.HEALING if rng.random() < HEALING_SHARE else Kind.STABLE


def evolve(
    kind: Kind, days: NDArray[np.float64], rng: np.random.Generator, evolution: Evolution = "growth"
) -> list[Opacity | None]:
    """The patient's opacity at each image; None in a clear chest."""
    side = rng.choice([-1.0, 1.0])
    x, y = 0.5 + side * rng.uniform(0.13, 0.25), rng.uniform(0.34, 0.66)
    progress = (days - days[0]) / (days[-1] - days[0])
    small, large = rng.uniform(0.3, 0.55), rng.uniform(0.07, 0.12)
    density = rng.uniform(0.30, 0.45)
    if kind == Kind.CLEAR:
        return [None] * len(days)
    if kind in (Kind.FORWARDS, Kind.BACKWARDS):
        severity = COURSES[evolution].draw(1.0 if kind.positive else -1.0, len(days), rng)
        (size, by), (grey, with_) = RADIUS, DENSITY
        return [
            Opacity(x, y, float(size * np.exp(by * v)), float(grey * np.exp(with_ * v))) for v in severity
        ]
    if kind == Kind.CONSOLIDATED:
        radii = rng.uniform(0.13, 0.19) * (0.85 + 0.15 * progress)
    elif kind == Kind.GROWING:
        radii = large * (small + (1.0 - small) * progress)
    elif kind == Kind.HEALING:
        radii = large * (1.0 - (1.0 - small) * progress)
    else:
        radii = np.full(len(days), large)
    radii = radii * rng.normal(1.0, 0.03, len(days))
    return [Opacity(x, y, float(r), density) for r in radii]


def _write_patient(
    folder: Path, whom: tuple[str, Kind, Population], seed: int, rng: np.random.Generator
) -> list[tuple[str, ...]]:
    """One patient's files; their names say nothing of the order. Returns rows of the truth table."""
    patient, kind, who = whom
    scanner, least = who.scanner, COURSES[who.evolution].least if who.evolution in COURSES else 0
    n = max(least, int(rng.integers(scanner.frames[0], scanner.frames[1] + 1)))
    days = np.cumsum(np.r_[0.0, rng.uniform(1.0, 6.0, n - 1)])
    start = datetime(2020, 1, 1) + timedelta(
        days=float(rng.integers(0, 1500)), hours=float(rng.uniform(0, 24))
    )
    chest, opacities = draw_chest(scanner.side, rng), evolve(kind, days, rng, who.evolution)
    person = numpy_generator(seed, "person", patient)  # of their own: who somebody is changes no image
    sex, age = str(person.choice(["F", "M"])), f"{int(person.integers(18, 95)):03d}Y"
    rows = []
    for k in rng.permutation(n):
        opacity = opacities[k]
        image = acquire(chest, opacity, scanner, rng)
        name = f"{derive_seed(seed, 'file', patient, int(k)):016x}.dcm"
        ds = to_dicom(image, scanner, patient, name, start + timedelta(days=float(days[k])))
        ds.PatientSex, ds.PatientAge = sex, age
        ds.save_as(folder / name, enforce_file_format=True)
        spot = (opacity.x, opacity.y, opacity.radius, opacity.density) if opacity else ()
        rows.append((name, f"{days[k]:.4f}", *(f"{v:.4f}" for v in spot), *[""] * (4 - len(spot))))
    return rows


READS: Mapping[Reader, str] = {
    "first": "the first image", "last": "the last image", "unordered": "all images, in no order",
    "difference": "the last image less the first", "ordered": "all images in order",
}  # fmt: skip


def optima_of(folders: Sequence[Path], evolution: Evolution) -> Mapping[Reader, float] | None:
    """The best AUROC of each kind of reader on the ambiguous patients that were written, all hospitals
    together; None where nobody knows it."""
    if evolution not in COURSES:
        return None
    lengths: dict[Kind, Counter[str]] = {Kind.FORWARDS: Counter(), Kind.BACKWARDS: Counter()}
    for folder in folders:
        with (folder / "truth.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                if row["kind"] in lengths:
                    lengths[Kind(row["kind"])][row["patient"]] += 1
    positive, negative = (list(lengths[kind].values()) for kind in (Kind.FORWARDS, Kind.BACKWARDS))
    return optima(COURSES[evolution], positive, negative)


def draw_chest(side: int, rng: np.random.Generator) -> Image:
    """A patient's anatomy without disease: (side, side) in [0, 1], soft tissue bright, lungs dark."""
    y, x = np.meshgrid(*[(np.arange(side, dtype=np.float32) + 0.5) / side] * 2, indexing="ij")
    image = 0.72 + 0.06 * np.cos(np.pi * (x - 0.5))
    for sign in (-1.0, 1.0):
        center, width, height = (
            0.5 + sign * rng.uniform(0.18, 0.21),
            rng.uniform(0.13, 0.16),
            rng.uniform(0.29, 0.34),
        )
        inside = 1.0 - (np.abs(x - center) / width) ** 2.5 - (np.abs(y - 0.5) / height) ** 2.5
        image -= rng.uniform(0.40, 0.46) / (1.0 + np.exp(-inside.clip(-8, 8) * 6.0))
    tilt, pitch, phase = rng.uniform(0.25, 0.5), rng.uniform(0.075, 0.095), rng.uniform(0, 2 * np.pi)
    image += 0.035 * np.cos(2 * np.pi * (y - tilt * (x - 0.5) ** 2) / pitch + phase)  # ribs
    heart = ((x - 0.54) / rng.uniform(0.11, 0.14)) ** 2 + ((y - 0.64) / rng.uniform(0.13, 0.17)) ** 2
    image += 0.25 * np.exp(-(heart**2))
    vessels = np.asarray(cv2.GaussianBlur(rng.normal(0.0, 1.0, (side, side)), (0, 0), side / 40))
    image += 0.02 * vessels / vessels.std()
    return np.asarray(image.clip(0.0, 1.0), dtype=np.float32)


def acquire(chest: Image, opacity: Opacity | None, scanner: Scanner, rng: np.random.Generator) -> Image:
    """One exposure: the opacity, a slightly other pose, the scanner's contrast, blur and noise. In [0, 1]."""
    side = len(chest)
    image = chest.copy()
    if opacity is not None:
        y, x = np.meshgrid(*[(np.arange(side, dtype=np.float32) + 0.5) / side] * 2, indexing="ij")
        distance = np.hypot(x - opacity.x, y - opacity.y) / opacity.radius
        image += opacity.density / (1.0 + np.exp((distance - 1.0) * 6.0))
    pose = cv2.getRotationMatrix2D((side / 2, side / 2), rng.normal(0.0, 1.5), rng.normal(1.0, 0.01))
    pose = np.asarray(pose) + np.c_[np.zeros((2, 2)), rng.normal(0.0, 0.012 * side, 2)]
    image = np.asarray(cv2.warpAffine(image, pose, (side, side), borderMode=cv2.BORDER_REPLICATE), np.float32)
    if scanner.blur > 0.0:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), scanner.blur), np.float32)
    image = 0.5 + (image - 0.5) * scanner.gain * rng.normal(1.0, 0.04) + rng.normal(0.0, 0.02)
    image += rng.normal(0.0, scanner.noise, image.shape)
    return np.asarray(image.clip(0.0, 1.0), dtype=np.float32)


def to_dicom(image: Image, scanner: Scanner, patient: str, name: str, time: datetime) -> Dataset:
    """A Computed Radiography Image (PS3.3 A.2) that holds `image` in the scanner's bits and photometry.

    `name`, unlike any other, gives the UIDs: the same phantom has the same ones.
    """
    uid, series, study = (
        generate_uid(entropy_srcs=[patient, name, level]) for level in ("image", "series", "study")
    )
    top = 2**scanner.bits - 1
    stored = np.rint((1.0 - image if scanner.inverted else image) * top).astype(
        "<u1" if scanner.bits == 8 else "<u2"
    )
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = ComputedRadiographyImageStorage, uid
    ds.PatientID, ds.PatientName, ds.PatientBirthDate, ds.PatientSex = patient, f"Phantom^{patient}", "", ""
    ds.StudyInstanceUID, ds.SeriesInstanceUID = study, series
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = time.strftime("%Y%m%d")
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = time.strftime("%H%M%S")
    ds.StudyID, ds.AccessionNumber, ds.ReferringPhysicianName = "1", "", ""
    ds.Modality, ds.SeriesNumber, ds.InstanceNumber, ds.AcquisitionNumber = "CR", 1, 1, 1
    ds.BodyPartExamined, ds.ViewPosition, ds.PatientOrientation = "CHEST", "AP", ["L", "F"]
    ds.Manufacturer, ds.ManufacturerModelName = scanner.maker, scanner.model
    ds.ImageType = ["ORIGINAL", "PRIMARY"]
    ds.SamplesPerPixel, ds.Rows, ds.Columns = 1, stored.shape[0], stored.shape[1]
    ds.PhotometricInterpretation = "MONOCHROME1" if scanner.inverted else "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8 * stored.itemsize, scanner.bits, scanner.bits - 1
    ds.PixelRepresentation = 0
    ds.WindowCenter, ds.WindowWidth = (top + 1) / 2, top + 1
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = 0, 1, "US"
    ds.PixelData = stored.tobytes()
    return ds
