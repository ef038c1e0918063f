"""The images that a DICOM object of ours refers to, with the headers that it takes over, as far as they may
stand in an object that is written today."""

import contextlib
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from highdicom import SOPClass
from pydicom import Dataset
from pydicom.config import RAISE
from pydicom.multival import MultiValue
from pydicom.uid import JPEG2000, JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless
from pydicom.valuerep import STR_VR, validate_value

from client.imaging.dicom import open_dataset
from client.imaging.facts.moment import parse_clock, parse_date, parse_offset
from client.imaging.facts.text import text, values
from client.prediction.explain.case import Explained

logging.getLogger("highdicom").setLevel(logging.CRITICAL)  # it logs odd names

LOSSY = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000)
"""Syntaxes of which a file without a word of it has lost something."""


@dataclass(frozen=True)
class Source:
    """One image that was judged."""

    ds: Dataset  # of its file, without pixels; every text in UTF-8
    frames: list[int] | None  # which image of the file, counted from 1; None where it has one


def sources(explained: Explained) -> list[Source]:
    """Of a case of DICOM files, in order. Raises what pydicom raises."""
    files: dict[Path, Dataset] = {}
    found = []
    for header in explained.case.headers:
        if header.path not in files:
            files[header.path] = _usable(open_dataset(header.path, headers_only=True))
        ds = files[header.path]
        several = int(ds.get("NumberOfFrames") or 1) > 1
        found.append(Source(ds, [header.frame + 1] if several else None))
    return found


def take_over(ds: SOPClass, image: Source) -> None:
    """What every object of one result says alike: whose it is, of which study, and on which clock; our own
    times are told on that one, too."""
    ds.copy_patient_and_study_information(image.ds)
    ds.SpecificCharacterSet = image.ds.SpecificCharacterSet
    offset = parse_offset(text(image.ds, "TimezoneOffsetFromUTC"))
    if offset is None:
        return
    now = datetime.now(timezone(timedelta(minutes=offset)))
    ds.TimezoneOffsetFromUTC = f"{now:%z}"
    for day, clock in OUR_TIMES:
        if day in ds:
            setattr(ds, day, f"{now:%Y%m%d}")
            setattr(ds, clock, f"{now:%H%M%S.%f}")


OUR_TIMES = (
    ("InstanceCreationDate", "InstanceCreationTime"),
    ("ContentDate", "ContentTime"),
    ("DateOfSecondaryCapture", "TimeOfSecondaryCapture"),
)


def orientation_of(ds: Dataset) -> list[str]:
    """Of rows and columns (PS3.3 C.7.6.1.1.1); none where the file does not say both."""
    told = values(ds, "PatientOrientation")
    known = len(told) == 2 and all(re.fullmatch("[APRLHF]{1,3}", one) for one in told)
    return told if known else []


def is_lossy(ds: Dataset) -> bool:
    """Whether something of the image was lost by compression, once and for ever."""
    told = text(ds, "LossyImageCompression")
    return told == "01" or (told != "00" and ds.file_meta.TransferSyntaxUID in LOSSY)


def _usable(ds: Dataset) -> Dataset:
    """With what highdicom copies of the patient and the study, which must be there (type 2), if empty."""
    for keyword, usable in _TAKEN_OVER.items():
        setattr(ds, keyword, usable(_first(ds, keyword)))
    _drop_unusable(ds)
    ds.SpecificCharacterSet = "ISO_IR 192"  # has the letters of all others
    return ds


def _drop_unusable(ds: Dataset) -> None:
    """What cannot be read, or may not be written, is not taken over; what can be read is decoded by now."""
    for tag in list(ds.keys()):
        usable = False
        with contextlib.suppress(Exception):  # pydicom parses on access
            element = ds[tag]
            usable = element.keyword in NEEDED or _may_be_written(element.VR, element.value)
            if element.VR == "SQ":
                for item in element.value:
                    _drop_unusable(item)
                usable = bool(element.value)
        if not usable or tag == CHARACTERS:
            del ds[tag]


CHARACTERS = 0x00080005


def _may_be_written(vr: str, value: object) -> bool:
    """Raises ValueError if not."""
    if vr in STR_VR:
        for one in value if isinstance(value, MultiValue) else [value]:
            validate_value(vr, str("" if one is None else one), RAISE)
    return True


def _first(ds: Dataset, keyword: str) -> str:
    value = ds.get(keyword)
    if isinstance(value, MultiValue):
        value = value[0] if value else None
    return "" if value is None else str(value)


def _date(value: str) -> str:
    """As DA is written today; empty where nobody knows what an old value says."""
    day = parse_date(re.sub(r"^(\d{4})-(\d\d)-(\d\d)$", r"\1\2\3", value.strip()))
    return f"{day:%Y%m%d}" if day else ""


def _clock(value: str) -> str:
    clock = parse_clock(value)
    return f"{clock:%H%M%S.%f}" if clock else ""


def _sex(value: str) -> str:
    return value if value in ("M", "F", "O") else ""


_TAKEN_OVER: Mapping[str, Callable[[str], str]] = {
    "PatientName": str,
    "PatientBirthDate": _date,
    "PatientSex": _sex,
    "StudyID": str,
    "StudyDate": _date,
    "StudyTime": _clock,
    "AccessionNumber": str,
    "ReferringPhysicianName": str,
}
UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
NEEDED = ("PatientID", *UIDS, *_TAKEN_OVER)
"""Without these there is no object; they are named as the image names them."""
