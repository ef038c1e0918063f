"""One DICOM file -> where each of its images belongs in a patient's sequence. Grey values are pixels.py's."""

import logging
import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pydicom
from pydicom import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
)

from client.imaging.attributes import AGES, SEXES
from client.imaging.deidentify import identifiers_in, removed_from
from client.imaging.functional_groups import count_frames, frame_attributes, slice_position
from client.imaging.outcome import Reason, Skipped

logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # it logs odd values too

MAX_PIXELS = 16384 * 16384
MAX_FRAMES = 10_000
PLACED_BY = ("geometry", "slice location", "instance number")
"""How a slice's place is known, the surest first."""
MODALITIES = {"xray": ("CR", "DX", "RF", "RG"), "ct": ("CT",)}


@dataclass(frozen=True, slots=True)  # a hospital has a hundred thousand
class Header:
    """What places one image in a patient's sequence."""

    path: Path
    patient: str  # as in the file; leaves this package only as a pseudonym
    uid: str
    series: str
    time: datetime | None
    position: float | None  # millimetres along the normal of the slice
    scanner: str
    shape: tuple[int, int]
    study: str = ""
    accession: str = ""
    frame: int = 0  # which image of the file
    view: str = "unknown"  # of an X-ray: "frontal", "other", "unknown"
    derived: bool = False  # a localiser, a reformatted image or a capture
    thickness: float | None = None  # millimetres
    placed_by: str = "geometry"  # one of PLACED_BY
    burnt_in: bool = False  # the file says that text is drawn into the image
    sex: str = "unknown"  # one of SEXES
    age: str = "unknown"  # one of AGES: years, in bands that many patients share


@dataclass(frozen=True)
class HeadersOfFile:
    """What one file says of its images, and what stays behind."""

    images: list[Header]
    removed: tuple[str, ...]  # keywords of its identifying attributes
    identifiers: frozenset[str]  # their values, for the scan of the finished cohort


def read_headers(path: Path, modality: str) -> HeadersOfFile:
    """Read all but the pixels: one header an image, several for a multi-frame file.

    Raises:
        Skipped: the file is no DICOM image of the plan's `modality` ("xray", "ct"), or lacks what orders it.
    """
    with guarded():
        ds = open_dataset(path, headers_only=True)
        return HeadersOfFile(_headers(path, ds, modality), removed_from(ds), identifiers_in(ds))


def read_patient(path: Path) -> str:
    """The Patient ID of a file, whatever it holds. Raises Skipped if it is no DICOM file."""
    with guarded():
        return str(open_dataset(path, headers_only=True).get("PatientID", "") or "").strip()


def open_dataset(path: Path, headers_only: bool = False) -> Dataset:
    """A file as a dataset, also one without preamble, or without a transfer syntax. Raises Skipped or what
    pydicom raises."""
    try:
        ds = pydicom.dcmread(path, stop_before_pixels=headers_only)
    except InvalidDicomError:
        ds = pydicom.dcmread(path, stop_before_pixels=headers_only, force=True)
        # Anything can be forced: what makes it DICOM is that it names its class or its image's size.
        if "SOPClassUID" not in ds and "Rows" not in ds:
            raise Skipped(Reason.NOT_DICOM) from None
    if "TransferSyntaxUID" not in ds.file_meta:
        implicit, little = ds.original_encoding
        syntax = (
            ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        )
        ds.file_meta.TransferSyntaxUID = syntax
    return ds


def _headers(path: Path, ds: Dataset, modality: str) -> list[Header]:
    require_image(ds)
    if str(ds.get("Modality", "")) not in MODALITIES[modality]:
        raise Skipped(Reason.OTHER_MODALITY)
    patient = str(ds.get("PatientID", "") or "").strip()
    if not patient:
        raise Skipped(Reason.NO_PATIENT)
    time = acquisition_time(ds)
    scanner = " ".join(str(ds.get(k, "") or "") for k in ("Manufacturer", "ManufacturerModelName")).strip()
    n, uid = count_frames(ds), str(ds.get("SOPInstanceUID", "") or path)
    pause = timedelta(milliseconds=float(ds.get("FrameTime", 0.0) or 0.0)) if n > 1 else timedelta()
    places = [_place(ds, k) for k in range(n)]
    headers = [
        Header(
            path=path,
            frame=k,
            patient=patient,
            uid=uid if n == 1 else f"{uid}:{k:05d}",
            study=str(ds.get("StudyInstanceUID", "") or ""),
            accession=str(ds.get("AccessionNumber", "") or "").strip(),
            series=str(ds.get("SeriesInstanceUID", "") or ""),
            time=None if time is None else time + k * pause,
            position=places[k][0],
            scanner=scanner or "unknown",
            shape=(int(ds.Rows), int(ds.Columns)),
            view=view_of(ds),
            derived=_is_derived(ds),
            thickness=_number(ds.get("SliceThickness")),
            placed_by=places[k][1],
            burnt_in=str(ds.get("BurnedInAnnotation", "") or "").strip().upper() == "YES",
            sex=_sex(ds),
            age=_age_band(ds, time),
        )
        for k in range(n)
    ]
    if modality == "xray" and time is None:
        raise Skipped(Reason.NO_TIME)
    if modality == "ct" and any(h.position is None for h in headers):
        raise Skipped(Reason.NO_POSITION)
    return headers


def _sex(ds: Dataset) -> str:
    sex = str(ds.get("PatientSex", "") or "").strip().upper()
    return sex if sex in SEXES else "unknown"


def _age_band(ds: Dataset, time: datetime | None) -> str:
    """By PatientAge (PS3.5: 045Y, 018M), else by the birth date at the image's time."""
    years: float | None = None
    stated = str(ds.get("PatientAge", "") or "").strip().upper()
    if stated[:-1].isdigit() and stated[-1:] in _YEARS_IN:
        years = int(stated[:-1]) * _YEARS_IN[stated[-1]]
    elif (born := _parse_time(str(ds.get("PatientBirthDate", "") or ""), "")) and time:
        years = (time - born).days / 365.25
    if years is None or not 0 <= years < 130:
        return "unknown"
    return AGES[min(int(years // 20), 4)]


_YEARS_IN = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}


def require_image(ds: Dataset) -> None:
    """Raise Skipped unless the dataset describes an image of a size that we take."""
    if "Rows" not in ds or "Columns" not in ds or "PhotometricInterpretation" not in ds:
        raise Skipped(Reason.NO_PIXELS)
    if int(ds.Rows) * int(ds.Columns) > MAX_PIXELS or count_frames(ds) > MAX_FRAMES:
        raise Skipped(Reason.TOO_LARGE)


def _place(ds: Dataset, frame: int) -> tuple[float | None, str]:
    """Where a slice lies, and how that is known: by its geometry, else slice location, else its number in the
    series."""
    if (position := slice_position(frame_attributes(ds, frame))) is not None:
        return position, "geometry"
    if frame == 0 and (position := _number(ds.get("SliceLocation"))) is not None:
        return position, "slice location"
    if frame == 0 and (number := _number(ds.get("InstanceNumber"))) is not None:
        return number * (_number(ds.get("SliceThickness")) or 1.0), "instance number"
    return None, "nothing"


def _number(value: object) -> float | None:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def view_of(ds: Dataset) -> str:
    """ "frontal", "other" or "unknown": by ViewPosition (PS3.3 C.8.7.1), else by words in the series'
    description."""
    view = str(ds.get("ViewPosition", "") or "").strip().upper()
    if view:
        return "frontal" if view in _FRONTAL else "other" if view in _NOT_FRONTAL else "unknown"
    words = set(re.split(r"[^A-Z]+", str(ds.get("SeriesDescription", "") or "").upper()))
    if words & _NOT_FRONTAL:
        return "other"
    return "frontal" if words & _FRONTAL else "unknown"


_FRONTAL = {"PA", "AP", "FRONTAL"}
_NOT_FRONTAL = {"LL", "RL", "LLD", "RLD", "LLO", "RLO", "LATERAL", "LAT", "OBLIQUE"}


def _is_derived(ds: Dataset) -> bool:
    kinds = {str(kind).upper() for kind in (ds.get("ImageType") or [])}
    return bool(kinds & {"LOCALIZER", "SECONDARY"}) or ds.get("SOPClassUID") == SecondaryCaptureImageStorage


def acquisition_time(ds: Dataset) -> datetime | None:
    """When the image was taken: acquisition, else content, series or study date. None without a usable
    date."""
    stamp = str(ds.get("AcquisitionDateTime", "") or "")
    if parsed := _parse_time(stamp[:8], stamp[8:]):
        return parsed
    for kind in ("Acquisition", "Content", "Series", "Study"):
        date, time = str(ds.get(f"{kind}Date", "") or ""), str(ds.get(f"{kind}Time", "") or "")
        if parsed := _parse_time(date, time):
            return parsed
    return None


def _parse_time(date: str, time: str) -> datetime | None:
    """DICOM DA (YYYYMMDD) and TM (HH[MM[SS[.F]]]); a missing or odd time of day is midnight."""
    try:
        day = datetime.strptime(date.replace(".", "").strip(), "%Y%m%d")
    except ValueError:
        return None
    clock = time.replace(":", "").strip().split(".")[0].split("+")[0].split("-")[0]
    try:
        return day.replace(
            hour=int(clock[0:2] or 0), minute=int(clock[2:4] or 0), second=min(int(clock[4:6] or 0), 59)
        )
    except ValueError:
        return day


@contextmanager
def guarded() -> Iterator[None]:
    """Whatever reading a file raises becomes an outcome, and nothing that it holds is printed."""
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # pydicom warns about each odd value, with the value: not into our logs
        try:
            yield
        except Skipped:
            raise
        except MemoryError:
            raise Skipped(Reason.TOO_LARGE) from None
        except Exception:  # pydicom parses on access, decoders are many: a bad file may raise anything
            raise Skipped(Reason.BROKEN) from None
