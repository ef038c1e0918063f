"""One image of a sequence before it is read: where it lies in time or space, and where its grey values come
from."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
from numpy.typing import NDArray

from client.imaging.outcome import Reason, Skipped
from client.imaging.pixels import DicomPixels, Grey


@dataclass(frozen=True)
class ImageFile:
    """A PNG, JPEG or TIFF."""

    path: Path

    def read(self) -> Grey:
        """(H, W) in [0, 1]. Raises Skipped if it cannot be decoded, or holds several."""
        try:
            data = self.path.read_bytes()  # by itself OpenCV prints the path of what is missing
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)
        except (OSError, cv2.error):
            raise Skipped(Reason.BROKEN) from None
        if image is None or image.dtype not in (np.uint8, np.uint16):
            raise Skipped(Reason.BROKEN)
        n_images, white_is_zero = _told(data)
        if n_images > 1:
            raise Skipped(Reason.SEVERAL_IMAGES)
        grey = unit_range(np.asarray(image))
        # OpenCV turns a TIFF whose white is zero round where it has eight bits, and leaves one of sixteen.
        return 1.0 - grey if image.dtype == np.uint16 and white_is_zero else grey


def _told(data: bytes) -> tuple[int, bool]:
    """How many images a file holds (a TIFF's pages, an animation's), and whether it is a TIFF whose white is
    zero (PhotometricInterpretation 0)."""
    try:
        with PIL.Image.open(BytesIO(data)) as file:
            return getattr(file, "n_frames", 1), getattr(file, "tag_v2", {}).get(262) == 0
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError):
        return 1, False


@dataclass(frozen=True, eq=False)
class InMemory:
    """An image that somebody has read already; equal to itself alone."""

    values: NDArray[np.float32] | NDArray[np.uint8]  # (H, W): float in [0, 1], or the full range of uint8

    def read(self) -> Grey:
        """(H, W) in [0, 1]."""
        if self.values.dtype == np.uint8:
            return unit_range(self.values.astype(np.uint8, copy=False))
        return self.values.astype(np.float32)


Image = DicomPixels | ImageFile | InMemory


@dataclass(frozen=True)
class Frame:
    """One image that is not read yet."""

    position: (
        float  # days (X-ray) or millimetres (CT) on an axis of the patient's own; ascending in a sequence
    )
    image: Image

    @property
    def path(self) -> Path | None:
        """The file that it comes from, if it comes from one."""
        return None if isinstance(self.image, InMemory) else self.image.path


def unit_range(image: NDArray[np.unsignedinteger]) -> Grey:
    """An unsigned image's full range to [0, 1]."""
    unit: Grey = image.astype(np.float32)
    unit /= np.float32(np.iinfo(image.dtype).max)
    return unit
