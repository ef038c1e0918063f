"""The pixels of one image in a DICOM file -> grey values in [0, 1]."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import RLELossless

from client.imaging.dicom import guarded, open_dataset, require_image
from client.imaging.functional_groups import count_frames, frame_attributes
from client.imaging.outcome import Reason, Skipped
from common.arrays import Pixels
from common.plan import Window

Grey = NDArray[np.float32]
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
    """One frame of a dataset -> (H, W) float32 in [0, 1], with square pixels (PS3.4 annex N.2: modality LUT,
    VOI LUT, presentation). Padding is black."""
    if "PixelData" not in ds:
        raise Skipped(Reason.NO_PIXELS)
    stored = samples(ds, frame)
    if ds.PhotometricInterpretation == "PALETTE COLOR":
        stored = apply_color_lut(stored, ds)
    own = frame_attributes(ds, frame)
    if stored.ndim == 3:
        return square(_luminance(stored, _white(ds, stored)), aspect_of(own))
    padding = padding_in(stored, ds, own, frame)
    values = rescaled(stored, own)
    grey = _shown(values, own, window, padding)
    if ds.PhotometricInterpretation == "MONOCHROME1":
        grey = 1.0 - grey
    if padding is not None:
        grey[padding] = 0.0
    return square(grey, aspect_of(own))


def _shown(values: Grey, ds: Dataset, window: Window | None, padding: NDArray[np.bool_] | None) -> Grey:
    """Through the VOI: the given window, else the file's LUT, else its window, else its own range."""
    if window is not None:
        return apply_window(values, window.center, window.width, "LINEAR")
    signed = bool(ds.get("PixelRepresentation", 0)) or bool(values.min() < 0)
    if ds.get("VOILUTSequence") and (lut := Lut.of(ds.VOILUTSequence[0], signed)):
        return lut.look_up(values) / np.float32(_top(int(lut.entries.max()), lut.bits))
    if (own := _own_window(ds)) is not None:
        return apply_window(values, *own, str(ds.get("VOILUTFunction", "LINEAR") or "LINEAR"))
    return stretch(values, padding)


def samples(ds: Dataset, frame: int) -> NDArray[Any]:
    """Stored values of one frame as numbers. pydicom takes the lowest BitsStored bits; those of pixel data
    that are not compressed end at HighBit (PS3.5 8.1.1)."""
    bits, allocated = int(ds.BitsStored), int(ds.BitsAllocated)
    high = int(ds.get("HighBit", bits - 1))
    if not 0 < bits <= allocated or high >= allocated:
        raise Skipped(Reason.BROKEN)
    low = high + 1 - bits
    if low <= 0 or not _keeps_words(ds):
        return _array(ds, frame, view_only=True)
    words = _words(ds, frame)
    plain = (words.astype(np.int64) >> low) & ((1 << bits) - 1)
    if ds.PixelRepresentation:
        plain -= (plain >> (bits - 1)) << bits
    return plain.astype(words.dtype)


def _keeps_words(ds: Dataset) -> bool:
    """Whether pixel data are words of BitsAllocated: RLE packs them as they are, other codecs know samples
    alone."""
    syntax = ds.file_meta.TransferSyntaxUID
    return not syntax.is_compressed or syntax == RLELossless


def _words(ds: Dataset, frame: int) -> NDArray[Any]:
    """One frame with all BitsAllocated bits."""
    return _array(ds, frame, correct_unused_bits=False)


def _array(ds: Dataset, frame: int, **how: bool) -> NDArray[Any]:
    index = frame if count_frames(ds) > 1 else None
    return np.asarray(pixel_array(ds, index=index, **how))  # type: ignore[arg-type]


def padding_in(stored: NDArray[Any], ds: Dataset, own: Dataset, frame: int) -> NDArray[np.bool_] | None:
    """Where there is no image: stored values from PixelPaddingValue to PixelPaddingRangeLimit (PS3.3
    C.7.5.1.1.2); None where there are none, or nothing else. A value that BitsStored cannot hold is looked
    for among the whole words."""
    value = own.get("PixelPaddingValue")
    if value is None:
        return None
    ends = sorted(_stored_value(v, own) for v in (value, own.get("PixelPaddingRangeLimit", value)))
    bits = int(ds.BitsStored)
    least = -(1 << (bits - 1)) if ds.PixelRepresentation else 0
    if (ends[0] < least or ends[1] >= least + (1 << bits)) and _keeps_words(ds):
        stored = _words(ds, frame)
    padding = (stored >= ends[0]) & (stored <= ends[1])
    return padding if padding.any() and not padding.all() else None


def _stored_value(value: object, ds: Dataset) -> int:
    """Of US or SS: many files write a negative value as an unsigned one, or the other way about."""
    number: int = int(value)  # type: ignore[call-overload]
    bits: int = int(ds.BitsAllocated)
    if ds.PixelRepresentation and number >= 1 << (bits - 1):
        return number - (1 << bits)
    return number + (1 << bits) if not ds.PixelRepresentation and number < 0 else number


def rescaled(stored: NDArray[Any], ds: Dataset) -> Grey:
    """Stored values through the modality LUT, or slope and intercept, into a new array: the windows below
    work in place.

    The LUT of an angiography or a fluoroscopy undoes what makes it fit to be looked at, and is not for
    showing (PS3.3 C.8.7.1.1.2); a slope or an intercept without the other is one with 1 or 0.
    """
    if ds.get("ModalityLUTSequence") and ds.get("Modality") not in ("XA", "RF"):
        lut = Lut.of(ds.ModalityLUTSequence[0], bool(ds.get("PixelRepresentation", 0)))
        if lut is None:
            raise Skipped(Reason.BROKEN)
        return lut.look_up(stored)
    values = stored.astype(np.float32)
    slope, intercept = ds.get("RescaleSlope"), ds.get("RescaleIntercept")
    if slope is not None and slope != 1:
        values *= np.float32(slope)
    if intercept is not None:
        values += np.float32(intercept)
    return values


def _white(ds: Dataset, rgb: NDArray[Any]) -> int:
    """The largest that a sample may be: of BitsStored, or of a palette's entries."""
    if ds.PhotometricInterpretation != "PALETTE COLOR":
        return (1 << int(ds.BitsStored)) - 1
    tables = [ds.get(f"{colour}PaletteColorLookupTableData") for colour in ("Red", "Green", "Blue")]
    if not all(tables):  # in segments, which pydicom unfolds as the descriptor says
        return int(np.iinfo(rgb.dtype).max)
    largest = max(int(np.frombuffer(table, rgb.dtype).max()) for table in tables)
    return _top(largest, int(ds.RedPaletteColorLookupTableDescriptor[2]))


def _luminance(rgb: NDArray[Any], white: int) -> Grey:
    """(H, W, 3) unsigned -> (H, W) in [0, 1]; pydicom has turned the other colour spaces into RGB."""
    if rgb.shape[2] < 3 or not np.issubdtype(rgb.dtype, np.unsignedinteger):
        raise Skipped(Reason.BROKEN)
    grey: Grey = (rgb[..., :3].astype(np.float32) @ LUMA) / np.float32(white)
    return grey.clip(0.0, 1.0)


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


@dataclass(frozen=True)
class Lut:
    """A modality or VOI LUT (PS3.3 C.11.1.1, C.11.2.1.1)."""

    entries: NDArray[np.integer]
    first: int  # the value that the first entry is of
    bits: int  # of an entry, as the descriptor says

    @classmethod
    def of(cls, item: Dataset, signed: bool) -> "Lut | None":
        """None if it is broken. pydicom's own knows entries of 8 and 16 bits alone."""
        try:
            n, first, bits = (int(v) for v in item.LUTDescriptor)
            entries = _lut_data(item, n or 1 << 16)
        except (AttributeError, TypeError, ValueError):
            return None
        return cls(entries, first - (1 << 16) if signed and first >= 1 << 15 else first, bits)

    def look_up(self, values: NDArray[Any]) -> Grey:
        """Values below the first entry, or above the last, are these."""
        place = np.rint(values).astype(np.int64) - self.first
        grey: Grey = self.entries[place.clip(0, len(self.entries) - 1)].astype(np.float32)
        return grey


def _lut_data(item: Dataset, entries: int) -> NDArray[np.integer]:
    """The entries, one or two bytes each. Raises ValueError if there are fewer or more than the descriptor
    says."""
    data = item.LUTData
    if isinstance(data, bytes):
        narrow = len(data) in (entries, entries + 1) and entries > 1
        order = ">" if item.original_encoding[1] is False else "<"
        table = np.frombuffer(data, np.uint8 if narrow else np.dtype(f"{order}u2"))
    else:
        table = np.asarray(data).reshape(-1) & 0xFFFF
    if len(table) < entries or len(table) > entries + 1:
        raise ValueError
    return table[:entries]


def _top(largest: int, bits: int) -> int:
    """The full range of a LUT's entries: by what the descriptor says, unless they are wider, or use not even
    half of it."""
    said: int = 2**bits - 1
    return said if said // 2 < largest <= said else max(1, (1 << largest.bit_length()) - 1)


def stretch(values: Grey, padding: NDArray[np.bool_] | None = None) -> Grey:
    """The image's own range to [0, 1], padding aside; a constant image becomes 0."""
    inside = values if padding is None else values[~padding]
    low, high = float(inside.min()), float(inside.max())
    return ((values - low) / (high - low)).clip(0.0, 1.0) if high > low else np.zeros_like(values)


def aspect_of(ds: Dataset) -> float:
    """Height of a pixel over its width: by PixelSpacing, ImagerPixelSpacing or PixelAspectRatio (each
    vertical, horizontal); 1 where none is usable."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "PixelAspectRatio"):
        try:
            height, width = (float(v) for v in ds.get(keyword) or ())
        except (TypeError, ValueError):
            continue
        if height > 0 and width > 0 and 1 / MOST_ASPECT <= height / width <= MOST_ASPECT:
            return height / width
    return 1.0


MOST_ASPECT = 8.0
"""No detector's pixels are longer."""


def square(grey: Grey, aspect: float) -> Grey:
    """Resampled along the longer side of its pixels, so that a disc is round; as it is within a hundredth."""
    if abs(aspect - 1.0) < 0.01:
        return grey
    height, width = grey.shape
    size = (width, round(height * aspect)) if aspect > 1 else (round(width / aspect), height)
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_LINEAR), np.float32)


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
