"""The pixels of one image in a DICOM file -> grey values in [0, 1]."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi
from pydicom.pixels.utils import pixel_array

from client.imaging.dicom import guarded, open_dataset, require_image
from client.imaging.functional_groups import count_frames, frame_attributes
from client.imaging.outcome import Reason, Skipped
from common.plan import Window

Grey = NDArray[np.float32]
Pixels = NDArray[np.uint8] | NDArray[np.uint16]
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of red, green and blue (ITU-R BT.601)."""


@dataclass(frozen=True)
class DicomPixels:
    """An image in a DICOM file that is not read yet."""

    path: Path
    window: Window | None = None
    frame: int = 0

    def read(self) -> Grey:
        """(H, W) in [0, 1]. Raises Skipped if it cannot be decoded."""
        return read_pixels(self.path, self.window, self.frame)


def read_pixels(path: Path, window: Window | None = None, frame: int = 0) -> Grey:
    """Grey values (H, W) float32 in [0, 1], bright is bright: modality LUT, VOI, inversion, in the standard's
    order.

    `window` replaces the VOI transformation of the file. Without any, the image's own range is stretched.
    Colour becomes its luminance.

    Raises:
        Skipped: the pixels cannot be decoded.
    """
    with guarded():
        ds = _last_dataset(path)
        require_image(ds)
        if count_frames(ds) == 1:
            _last_dataset.cache_clear()  # only a file of many frames is asked for again
        return to_grey(ds, window, frame)


@lru_cache(maxsize=1)
def _last_dataset(path: Path) -> Dataset:
    return open_dataset(path)


def to_grey(ds: Dataset, window: Window | None = None, frame: int = 0) -> Grey:
    """One frame of a dataset -> (H, W) float32 in [0, 1] (PS3.4 annex N.2: modality LUT, VOI LUT,
    presentation)."""
    if "PixelData" not in ds:
        raise Skipped(Reason.NO_PIXELS)
    stored = pixel_array(ds, index=frame if count_frames(ds) > 1 else None, view_only=True)
    if ds.PhotometricInterpretation == "PALETTE COLOR":
        stored = apply_color_lut(stored, ds)
    if stored.ndim == 3:
        return _luminance(stored)
    about = frame_attributes(ds, frame)
    values = _rescaled(stored, about)
    if window is not None:
        grey = apply_window(values, window.center, window.width, "LINEAR")
    elif about.get("VOILUTSequence"):
        grey = _apply_voi_lut(values, about)
    elif (own := _own_window(about)) is not None:
        grey = apply_window(values, *own, str(about.get("VOILUTFunction", "LINEAR") or "LINEAR"))
    else:
        grey = stretch(values)
    return 1.0 - grey if ds.PhotometricInterpretation == "MONOCHROME1" else grey


def _rescaled(stored: NDArray[Any], ds: Dataset) -> Grey:
    """Stored values through the modality LUT, or slope and intercept, into a new array: the windows below
    work in place."""
    if ds.get("ModalityLUTSequence"):
        return np.array(apply_modality_lut(stored, ds), dtype=np.float32)
    values = stored.astype(np.float32)
    slope, intercept = ds.get("RescaleSlope"), ds.get("RescaleIntercept")
    if slope is not None and intercept is not None:
        if slope != 1:
            values *= np.float32(slope)
        values += np.float32(intercept)
    return values


def _luminance(rgb: NDArray[Any]) -> Grey:
    """(H, W, 3) unsigned -> (H, W) in [0, 1]; pydicom has turned the other colour spaces into RGB."""
    if rgb.shape[2] < 3 or not np.issubdtype(rgb.dtype, np.unsignedinteger):
        raise Skipped(Reason.BROKEN)
    grey: Grey = (rgb[..., :3].astype(np.float32) @ LUMA) / np.float32(np.iinfo(rgb.dtype).max)
    return grey


def apply_window(values: Grey, center: float, width: float, function: str) -> Grey:
    """VOI window to [0, 1], in place: LINEAR, LINEAR_EXACT and SIGMOID of PS3.3 C.11.2.1.2 and C.11.2.1.3."""
    if function == "SIGMOID":
        with np.errstate(over="ignore"):
            values[...] = 1.0 / (1.0 + np.exp(-4.0 * (values - center) / width))
        return values
    if function != "LINEAR_EXACT":
        center, width = center - 0.5, width - 1.0
    if width <= 0.0:
        values[...] = values > center
        return values
    values -= np.float32(center - width / 2.0)
    values *= np.float32(1.0 / width)
    return values.clip(0.0, 1.0, out=values)


def _own_window(ds: Dataset) -> tuple[float, float] | None:
    """The file's first window, if it has a usable one."""
    if "WindowCenter" not in ds or "WindowWidth" not in ds:
        return None
    first = [
        np.atleast_1d(np.asarray(ds[tag].value, dtype=np.float64))[:1]
        for tag in ("WindowCenter", "WindowWidth")
    ]
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


def fit(grey: NDArray[np.float32], size: int, depth: int) -> Pixels:
    """(H, W) in [0, 1] -> (size, size) uint8 or uint16, padded with black to a square first, averaged over
    areas."""
    height, width = grey.shape
    side = max(height, width)
    if height != width:
        top, left = (side - height) // 2, (side - width) // 2
        grey = np.pad(grey, ((top, side - height - top), (left, side - width - left)))
    if side != size:
        method = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
        grey = np.asarray(cv2.resize(grey, (size, size), interpolation=method), np.float32)
    top_value = 2**depth - 1
    pixels: Pixels = (
        np.rint(grey * top_value).clip(0, top_value).astype(np.uint8 if depth == 8 else np.uint16)
    )
    return pixels
