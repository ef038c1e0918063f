"""Multi-frame objects: what holds for one frame, wherever the file says it (PS3.3 C.7.6.16: shared and
per-frame groups)."""

import numpy as np
from pydicom import Dataset

_GROUPS = (
    "PlanePositionSequence", "PlaneOrientationSequence", "PixelValueTransformationSequence",
    "FrameVOILUTSequence",
    "PixelMeasuresSequence", "CTReconstructionSequence", "FrameContentSequence",
    "CTImageFrameTypeSequence", "XRay3DFrameTypeSequence",
)  # fmt: skip
_TOP = (
    "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "Modality", "SOPClassUID",
    "PixelPaddingValue", "PixelPaddingRangeLimit", "PixelSpacing", "ImagerPixelSpacing", "PixelAspectRatio",
    "RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence",
    "ModalityLUTSequence", "ImagePositionPatient", "ImageOrientationPatient", "FrameOfReferenceUID",
    "ConvolutionKernel",
    "SliceThickness", "AcquisitionNumber", "TemporalPositionIdentifier",
)  # fmt: skip
"""What may stand at the top level for all frames."""


Normal = tuple[float, float, float]
"""A unit vector in the patient: to the left, the back, the head."""


def count_frames(ds: Dataset) -> int:
    """Images in the file; 1 where it does not say."""
    return max(1, int(ds.get("NumberOfFrames", 1) or 1))


def frame_attributes(ds: Dataset, frame: int) -> Dataset:
    """The dataset that holds for one frame: itself, or for an enhanced object its top level overlaid by the
    frame's groups."""
    shared, per_frame = ds.get("SharedFunctionalGroupsSequence"), ds.get("PerFrameFunctionalGroupsSequence")
    if not shared and not per_frame:
        return ds
    overlaid = Dataset()
    for keyword in _TOP:
        if keyword in ds:
            overlaid[keyword] = ds[keyword]
    for sequence, k in ((shared, 0), (per_frame, frame)):
        groups = sequence[k] if sequence and k < len(sequence) else Dataset()
        for name in _GROUPS:
            if groups.get(name):
                overlaid.update(groups[name].value[0])
    return overlaid


def slice_geometry(ds: Dataset) -> tuple[float, Normal] | None:
    """Millimetres of the slice along its normal, and that normal (row direction x column direction), turned
    so that its largest part points to the left, the back or the head.

    None where it is missing or degenerate: directions that are not two unit vectors at a right angle.
    """
    try:
        position = np.asarray(ds["ImagePositionPatient"].value, dtype=np.float64)
        cosines = np.asarray(ds["ImageOrientationPatient"].value, dtype=np.float64)
    except (KeyError, TypeError, ValueError):
        return None
    if position.shape != (3,) or cosines.shape != (6,) or not np.isfinite([*position, *cosines]).all():
        return None
    normal = np.cross(cosines[:3], cosines[3:])
    lengths = [np.linalg.norm(v) for v in (cosines[:3], cosines[3:], normal)]
    if max(abs(length - 1.0) for length in lengths) > CROOKED:
        return None
    normal = normal * np.sign(normal[np.abs(normal).argmax()])
    x, y, z = normal.round(6) + 0.0
    return float(position @ normal), (float(x), float(y), float(z))


CROOKED = 0.02
"""Directions are written with few digits."""
