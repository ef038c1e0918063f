"""One DICOM file -> its place in a sequence (header) and its grey values in [0, 1] (pixels)."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.pixels.processing import apply_modality_lut, apply_voi

from client.imaging.outcome import Reason, Skipped
from common.plan import Window

logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # it logs odd values too

Grey = NDArray[np.float32]

MAX_PIXELS = 16384 * 16384
MODALITIES = {"xray": ("CR", "DX", "RF", "RG"), "ct": ("CT",)}

_HEADER_TAGS = [
    "PatientID", "Modality", "SOPInstanceUID", "SeriesInstanceUID", "SamplesPerPixel", "NumberOfFrames", "Rows", "Columns",
    "AcquisitionDateTime", "AcquisitionDate", "AcquisitionTime", "ContentDate", "ContentTime", "SeriesDate", "SeriesTime",
    "StudyDate", "StudyTime", "ImagePositionPatient", "ImageOrientationPatient", "InstanceNumber",
    "Manufacturer", "ManufacturerModelName", "PhotometricInterpretation",
]  # fmt: skip


@dataclass(frozen=True)
class Header:
    """What places a file in a patient's sequence."""

    path: Path
    patient: str  # as in the file; leaves this package only as a pseudonym
    uid: str
    series: str
    time: datetime | None
    position: float | None  # millimetres along the normal of the slice
    scanner: str
    shape: tuple[int, int]


def read_header(path: Path, modality: str) -> Header:
    """Read all but the pixels.

    Raises:
        Skipped: the file is no DICOM image of the plan's `modality` ("xray", "ct"), or lacks what orders it.
    """
    with _guarded():
        ds = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_HEADER_TAGS)
        return _header(path, ds, modality)


def _header(path: Path, ds: Dataset, modality: str) -> Header:
    _require_single_grey_image(ds)
    if str(ds.get("Modality", "")) not in MODALITIES[modality]:
        raise Skipped(Reason.OTHER_MODALITY)
    patient = str(ds.get("PatientID", "") or "").strip()
    if not patient:
        raise Skipped(Reason.NO_PATIENT)
    time, position = acquisition_time(ds), slice_position(ds)
    if modality == "xray" and time is None:
        raise Skipped(Reason.NO_TIME)
    if modality == "ct" and position is None:
        raise Skipped(Reason.NO_POSITION)
    scanner = " ".join(str(ds.get(k, "") or "") for k in ("Manufacturer", "ManufacturerModelName")).strip()
    return Header(
        path=path,
        patient=patient,
        uid=str(ds.get("SOPInstanceUID", "") or path),
        series=str(ds.get("SeriesInstanceUID", "") or ""),
        time=time,
        position=position,
        scanner=scanner or "unknown",
        shape=(int(ds.Rows), int(ds.Columns)),
    )


def _require_single_grey_image(ds: Dataset) -> None:
    if "Rows" not in ds or "Columns" not in ds or "PhotometricInterpretation" not in ds:
        raise Skipped(Reason.NO_PIXELS)
    if int(ds.get("SamplesPerPixel", 1) or 1) != 1 or not str(ds.PhotometricInterpretation).startswith("MONOCHROME"):
        raise Skipped(Reason.COLOUR)
    if int(ds.get("NumberOfFrames", 1) or 1) != 1:
        raise Skipped(Reason.MULTI_FRAME)
    if int(ds.Rows) * int(ds.Columns) > MAX_PIXELS:
        raise Skipped(Reason.TOO_LARGE)


def acquisition_time(ds: Dataset) -> datetime | None:
    """When the image was taken: acquisition, else content, series or study date. None without a usable date."""
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
        return day.replace(hour=int(clock[0:2] or 0), minute=int(clock[2:4] or 0), second=min(int(clock[4:6] or 0), 59))
    except ValueError:
        return day


def slice_position(ds: Dataset) -> float | None:
    """Millimetres of the slice along its own normal: position . (row direction x column direction)."""
    try:
        position = np.asarray(ds["ImagePositionPatient"].value, dtype=np.float64)
        cosines = np.asarray(ds["ImageOrientationPatient"].value, dtype=np.float64)
    except (KeyError, TypeError, ValueError):
        return None
    if position.shape != (3,) or cosines.shape != (6,) or not np.isfinite([*position, *cosines]).all():
        return None
    return float(position @ np.cross(cosines[:3], cosines[3:]))


def read_pixels(path: Path, window: Window | None = None) -> Grey:
    """Grey values (H, W) float32 in [0, 1], bright is bright: modality LUT, VOI, inversion, in the standard's order.

    `window` replaces the VOI transformation of the file. Without any, the image's own range is stretched.

    Raises:
        Skipped: the pixels cannot be decoded.
    """
    with _guarded():
        ds = pydicom.dcmread(path)
        _require_single_grey_image(ds)
        return to_grey(ds, window)


def to_grey(ds: Dataset, window: Window | None = None) -> Grey:
    """Decoded dataset -> (H, W) float32 in [0, 1] (PS3.4 annex N.2: modality LUT, VOI LUT, presentation)."""
    if "PixelData" not in ds:
        raise Skipped(Reason.NO_PIXELS)
    values = np.asarray(apply_modality_lut(ds.pixel_array, ds), dtype=np.float32)
    if window is not None:
        grey = apply_window(values, window.center, window.width, "LINEAR")
    elif ds.get("VOILUTSequence"):
        grey = _apply_voi_lut(values, ds)
    elif (own := _own_window(ds)) is not None:
        grey = apply_window(values, *own, str(ds.get("VOILUTFunction", "LINEAR") or "LINEAR"))
    else:
        grey = stretch(values)
    return 1.0 - grey if ds.PhotometricInterpretation == "MONOCHROME1" else grey


def apply_window(values: Grey, center: float, width: float, function: str) -> Grey:
    """VOI window to [0, 1]: LINEAR, LINEAR_EXACT and SIGMOID of PS3.3 C.11.2.1.2 and C.11.2.1.3."""
    if function == "SIGMOID":
        with np.errstate(over="ignore"):
            sigmoid: Grey = (1.0 / (1.0 + np.exp(-4.0 * (values - center) / width))).astype(np.float32)
        return sigmoid
    if function != "LINEAR_EXACT":
        center, width = center - 0.5, width - 1.0
    if width <= 0.0:
        return (values > center).astype(np.float32)
    scaled: Grey = ((values - center) / width + 0.5).astype(np.float32)
    return scaled.clip(0.0, 1.0)


def _own_window(ds: Dataset) -> tuple[float, float] | None:
    """The file's first window, if it has a usable one."""
    if "WindowCenter" not in ds or "WindowWidth" not in ds:
        return None
    first = [np.atleast_1d(np.asarray(ds[tag].value, dtype=np.float64))[:1] for tag in ("WindowCenter", "WindowWidth")]
    if not all(len(v) and np.isfinite(v[0]) for v in first) or first[1][0] <= 0:
        return None
    return float(first[0][0]), float(first[1][0])


def _apply_voi_lut(values: Grey, ds: Dataset) -> Grey:
    """The file's first VOI LUT, scaled by the full range of its entries."""
    bits = int(ds.VOILUTSequence[0].LUTDescriptor[2])
    grey: Grey = (apply_voi(values.astype(np.int32), ds).astype(np.float32) / (2**bits - 1)).clip(0.0, 1.0)
    return grey


def stretch(values: Grey) -> Grey:
    """The image's own range to [0, 1]; a constant image becomes 0."""
    low, high = float(values.min()), float(values.max())
    return (values - low) / (high - low) if high > low else np.zeros_like(values)


@contextmanager
def _guarded() -> Iterator[None]:
    """Whatever reading a file raises becomes an outcome, and nothing that it holds is printed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns about each odd value, with the value: not into our logs
        try:
            yield
        except Skipped:
            raise
        except InvalidDicomError:
            raise Skipped(Reason.NOT_DICOM) from None
        except Exception:  # pydicom parses on access, decoders are many: a bad file may raise anything
            raise Skipped(Reason.BROKEN) from None
