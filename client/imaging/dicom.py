"""One DICOM file -> where each of its images belongs in a patient's sequence. Grey values are pixels.py's."""

import logging
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from client.imaging.deidentify import identifiers_in, removed_from
from client.imaging.facts import body_part, lie, side
from client.imaging.facts.image_kind import Kind, kind_of, kind_of_frame
from client.imaging.facts.moment import Moment, acquisition_moment, parse_date
from client.imaging.facts.person import NOBODY, Person, person_of
from client.imaging.facts.text import text
from client.imaging.facts.view import view_of
from client.imaging.functional_groups import Normal, count_frames, frame_attributes, slice_geometry
from client.imaging.outcome import Owner, Reason, Skipped
from common.attributes import AGES, SEXES

logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # it logs odd values too

MAX_PIXELS = 16384 * 16384
MAX_FRAMES = 10_000
MODALITIES = {"xray": ("CR", "DX", "RF", "RG"), "ct": ("CT",)}


@dataclass(frozen=True, slots=True)
class Stack:
    """What the slices of one volume have in common."""

    normal: Normal | None = None  # None without a usable geometry
    frame_of_reference: str = ""
    kernel: str = ""
    acquisition: str = ""
    moment: str = ""  # which of several passes over the same place
    echo: str = ""


NO_STACK = Stack()


@dataclass(frozen=True, slots=True)  # a hospital has a hundred thousand
class Header:
    """What places one image in a patient's sequence."""

    path: Path
    patient: str  # as in the file; leaves this package only as a pseudonym
    uid: str
    series: str
    time: datetime | None  # of the place; of UTC where `offset` has been taken off
    position: float | None  # millimetres from the feet to the head
    scanner: str
    shape: tuple[int, int]
    study: str = ""
    accession: str = ""
    frame: int = 0  # which image of the file
    view: str = "unknown"  # of an X-ray: "frontal", "other", "unknown"
    kind: Kind = Kind.ORIGINAL
    body: str = body_part.UNKNOWN
    person: Person = NOBODY
    offset: int | None = None  # of `time`, minutes east of UTC
    timed: bool = True  # whether `time` has a time of day
    exposure: str = ""  # the same of two images: they show one exposure
    doubts: tuple[str, ...] = ()  # names of the Reasons that its use is noted with
    stack: Stack = NO_STACK
    location: float | None = None  # SliceLocation
    number: float | None = None  # InstanceNumber
    thickness: float | None = None  # millimetres
    placed_by: str = "geometry"  # one of PLACED_BY
    burnt_in: bool = False  # the file says that text is drawn into the image
    right_at: str = side.UNKNOWN  # the edge of the image at which the patient's right is: facts/side.py
    sex: str = "unknown"  # one of SEXES
    age: str = "unknown"  # one of AGES: years, in bands that many patients share


WITHOUT_GEOMETRY: Mapping[str, Callable[[Header], float | None]] = {
    "slice location": lambda h: h.location,
    "instance number": lambda h: None if h.number is None else h.number * (h.thickness or 1.0),
}
PLACED_BY = ("geometry", *WITHOUT_GEOMETRY)
"""How a slice's place is known, the surest first."""
NOWHERE = (None, "nothing")


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
        owner = Owner(
            *(text(ds, keyword) for keyword in ("PatientID", "StudyInstanceUID", "AccessionNumber"))
        )
        try:
            return HeadersOfFile(_headers(path, ds, modality), removed_from(ds), identifiers_in(ds))
        except Skipped as skipped:
            raise Skipped(skipped.reason, owner) from None
        except MemoryError:
            raise
        except Exception:  # pydicom parses on access
            raise Skipped(Reason.BROKEN, owner) from None


def read_patient(path: Path) -> str:
    """The Patient ID of a file, whatever it holds. Raises Skipped if it is no DICOM file."""
    with guarded():
        return text(open_dataset(path, headers_only=True), "PatientID")


def open_dataset(path: Path, headers_only: bool = False) -> Dataset:
    """A file as a dataset, also one without preamble, or without a transfer syntax. Raises Skipped or what
    pydicom raises."""
    try:
        ds = pydicom.dcmread(path, stop_before_pixels=headers_only)
    except InvalidDicomError:
        try:
            ds = pydicom.dcmread(path, stop_before_pixels=headers_only, force=True)
        except MemoryError:  # four bytes of anything, read as the length of a value
            raise Skipped(Reason.NOT_DICOM) from None
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
    patient = text(ds, "PatientID")
    if not patient:
        raise Skipped(Reason.NO_PATIENT)
    moment, n = acquisition_moment(ds), count_frames(ds)
    common = _common(path, ds, patient, moment)
    headers = [_frame(common, ds, k, n, since) for k, since in enumerate(_times(ds, n))]
    if modality == "xray" and moment is None:
        raise Skipped(Reason.NO_TIME)
    if modality == "ct" and any(h.position is None for h in headers):
        raise Skipped(Reason.NO_POSITION)
    return headers


def _times(ds: Dataset, n: int) -> list[timedelta]:
    """Of each image, since the first (PS3.3 C.7.6.5): by their own pauses, or the one that all have."""
    told = [_number(pause) for pause in np.atleast_1d(ds.get("FrameTimeVector") or [])]
    pauses = [pause for pause in told if pause is not None]
    if n == 1 or len(pauses) != n:
        pauses = [float(ds.get("FrameTime", 0.0) or 0.0) if k else 0.0 for k in range(n)]
    return [timedelta(milliseconds=float(since)) for since in np.cumsum(pauses)]


def _common(path: Path, ds: Dataset, patient: str, moment: Moment | None) -> Header:
    """What holds for all images of a file."""
    scanner = f"{text(ds, 'Manufacturer')} {text(ds, 'ManufacturerModelName')}".strip()
    view, body = view_of(ds), body_part.body_part_of(ds)
    doubts = (
        (Reason.VIEW_DISAGREES, not view.agreed),
        (Reason.DATES_DISAGREE, moment is not None and not moment.agreed),
        (Reason.BODY_PART_UNSURE, body in (body_part.UNSURE, body_part.STRANGE)),
    )
    return Header(
        path=path,
        patient=patient,
        uid=text(ds, "SOPInstanceUID") or str(path),
        study=text(ds, "StudyInstanceUID"),
        accession=text(ds, "AccessionNumber"),
        series=text(ds, "SeriesInstanceUID"),
        time=moment.local if moment else None,
        position=None,
        scanner=scanner or "unknown",
        shape=(int(ds.Rows), int(ds.Columns)),
        view=view.name,
        kind=kind_of(ds),
        body=body,
        person=person_of(ds),
        offset=moment.offset if moment else None,
        timed=moment is None or moment.timed,
        exposure=_exposure(ds, moment, view.name),
        doubts=tuple(reason.name for reason, holds in doubts if holds),
        thickness=_number(ds.get("SliceThickness")),
        burnt_in=text(ds, "BurnedInAnnotation").upper() == "YES",
        sex=_sex(ds),
        age=_age_band(ds, moment.local if moment else None),
        location=_number(ds.get("SliceLocation")),
        number=_number(ds.get("InstanceNumber")),
    )


def _frame(common: Header, ds: Dataset, frame: int, n: int, since: timedelta) -> Header:
    """One image of a file, with what is its own."""
    own = frame_attributes(ds, frame)
    geometry = slice_geometry(own)
    position, placed_by = (geometry[0], "geometry") if geometry else _place(common) if n == 1 else NOWHERE
    stack = Stack(
        geometry[1] if geometry else None,
        text(own, "FrameOfReferenceUID"),
        text(own, "ConvolutionKernel"),
        text(own, "FrameAcquisitionNumber") or text(own, "AcquisitionNumber"),
        text(own, "TemporalPositionIndex") or text(own, "TemporalPositionIdentifier"),
        text(ds, "EchoNumbers"),
    )
    return replace(
        common,
        frame=frame,
        uid=common.uid if n == 1 else f"{common.uid}:{frame:05d}",
        time=None if common.time is None else common.time + since,
        position=position,
        placed_by=placed_by,
        stack=stack,
        kind=min(common.kind, kind_of_frame(own)),
        right_at=side.right_of(own),
        doubts=(*common.doubts, *([Reason.TURNED.name] if lie.is_turned(own) else [])),
    )


def _exposure(ds: Dataset, moment: Moment | None, view: str) -> str:
    """The same for two images of one exposure: a person is not exposed twice at one moment."""
    if event := text(ds, "IrradiationEventUID"):
        return f"{event} {view}"
    return f"{text(ds, 'StudyInstanceUID')} {moment.local} {view}" if moment and moment.exact else ""


def _sex(ds: Dataset) -> str:
    sex = text(ds, "PatientSex").upper()
    return sex if sex in SEXES else "unknown"


def _age_band(ds: Dataset, time: datetime | None) -> str:
    """By PatientAge (PS3.5: 045Y, 018M), else by the birth date at the image's time."""
    years: float | None = None
    stated = text(ds, "PatientAge").upper()
    if stated[:-1].isdecimal() and stated[-1:] in _YEARS_IN:
        years = int(stated[:-1]) * _YEARS_IN[stated[-1]]
    elif (born := parse_date(text(ds, "PatientBirthDate"))) and time:
        years = (time.date() - born).days / 365.25
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


def _place(header: Header) -> tuple[float | None, str]:
    """Where a slice without geometry lies, and how that is known."""
    told = ((place(header), how) for how, place in WITHOUT_GEOMETRY.items())
    return next(((position, how) for position, how in told if position is not None), NOWHERE)


def _number(value: object) -> float | None:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


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
