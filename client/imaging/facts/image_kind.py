"""What an image is: as taken, worked out from others, a capture of a screen, or the detector's raw signal.

Witnesses: the SOP class, PresentationIntentType, ConversionType, ImageType. Each can only make an image less
than an original.
"""

from enum import IntEnum

from pydicom import Dataset
from pydicom.uid import (
    DigitalIntraOralXRayImageStorageForProcessing,
    DigitalMammographyXRayImageStorageForProcessing,
    DigitalXRayImageStorageForProcessing,
    SecondaryCaptureImageStorage,
)

from client.imaging.facts.text import text, values


class Kind(IntEnum):
    """The higher, the closer to what the detector saw and a reader is shown."""

    RAW = 0  # For Processing: not made to be looked at
    NOT_A_SLICE = 1  # a localiser, a projection, a reformat
    CAPTURE = 2  # of a screen, a film or a document
    DERIVED = 3
    ORIGINAL = 4


def kind_of(ds: Dataset) -> Kind:
    """The least of what the witnesses say."""
    sop_class, parts = text(ds, "SOPClassUID"), values(ds, "ImageType")
    if sop_class in _RAW_CLASSES or text(ds, "PresentationIntentType").upper() == "FOR PROCESSING":
        return Kind.RAW
    if _is_no_slice(parts):
        return Kind.NOT_A_SLICE
    capture = (
        sop_class.startswith(SecondaryCaptureImageStorage) or text(ds, "ConversionType").upper() in _CONVERTED
    )
    if capture or "SECONDARY" in parts[1:2]:
        return Kind.CAPTURE
    return Kind.DERIVED if "DERIVED" in parts[:1] else Kind.ORIGINAL


def kind_of_frame(own: Dataset) -> Kind:
    """By the FrameType of one image of an enhanced object, whose ImageType may be MIXED; an original where it
    has none."""
    parts = values(own, "FrameType")
    if _is_no_slice(parts):
        return Kind.NOT_A_SLICE
    return Kind.DERIVED if "DERIVED" in parts[:1] else Kind.ORIGINAL


def _is_no_slice(parts: list[str]) -> bool:
    return bool({word for part in parts for word in part.replace("_", " ").split()} & _NOT_SLICES)


_RAW_CLASSES = {
    DigitalXRayImageStorageForProcessing,
    DigitalMammographyXRayImageStorageForProcessing,
    DigitalIntraOralXRayImageStorageForProcessing,
}
_CONVERTED = {"WSD", "SD", "SI", "DRW", "SYN", "DV"}  # PS3.3 C.8.6.1; a digitised film (DF) is an X-ray
_NOT_SLICES = {
    "LOCALIZER", "SCOUT", "MIP", "MINIP", "MIN", "MPR", "REFORMATTED", "REFORMAT", "CPR", "VRT", "VR",
    "SSD", "3D", "AVERAGE",
    "MAX", "MAXIMUM", "MINIMUM", "PROJECTION", "SUBTRACTION", "DOSE", "SCREEN", "MEAN", "VOLREN",
}  # fmt: skip
