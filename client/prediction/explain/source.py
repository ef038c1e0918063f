"""The images that a DICOM object of ours refers to, with the headers that it takes over, as far as they may
stand in an object that is written today."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pydicom import Dataset
from pydicom.multival import MultiValue

from client.imaging.dicom import open_dataset
from client.imaging.facts.moment import parse_clock, parse_date
from client.prediction.explain.case import Explained


@dataclass(frozen=True)
class Source:
    """One image that was judged."""

    ds: Dataset  # of its file, without pixels
    frames: list[int] | None  # which image of the file, counted from 1; None where it has one


def sources(explained: Explained) -> list[Source]:
    """Of a case of DICOM files, in order. Raises what pydicom raises."""
    found = []
    for header in explained.case.headers:
        ds = open_dataset(header.path, headers_only=True)
        for keyword, usable in _TAKEN_OVER.items():
            setattr(ds, keyword, usable(_first(ds, keyword)))
        several = int(ds.get("NumberOfFrames") or 1) > 1
        found.append(Source(ds, [header.frame + 1] if several else None))
    return found


def _first(ds: Dataset, keyword: str) -> str:
    value = ds.get(keyword)
    if isinstance(value, MultiValue):
        value = value[0] if value else None
    return "" if value is None else str(value)


def _date(value: str) -> str:
    """As DA is written today; empty where nobody knows what an old value says."""
    day = parse_date(value.replace("-", ""))
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
"""What highdicom copies of the patient and the study; they must be there (type 2), if empty."""
