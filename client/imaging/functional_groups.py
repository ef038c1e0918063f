"""Multi-frame objects: what holds for one frame, wherever the file says it (PS3.3 C.7.6.16: shared and
per-frame groups)."""

import numpy as np
from pydicom import Dataset

_GROUPS = (
    "PlanePositionSequence", "PlaneOrientationSequence", "PixelValueTransformationSequence",
    "FrameVOILUTSequence",
)  # fmt: skip


def count_frames(ds: Dataset) -> int:
    """Images in the file; 1 where it does not say."""
    return max(1, int(ds.get("NumberOfFrames", 1) or 1))


def frame_attributes(ds: Dataset, frame: int) -> Dataset:
    """The dataset that holds for one frame: itself, or for an enhanced object its top level overlaid by the
    frame's groups."""
    shared, per_frame = ds.get("SharedFunctionalGroupsSequence"), ds.get("PerFrameFunctionalGroupsSequence")
    if not shared and not per_frame:
        return ds
    found = Dataset()
    for tag in ("PhotometricInterpretation", "BitsStored", "PixelRepresentation"):
        if tag in ds:
            found[tag] = ds[tag]
    for sequence, k in ((shared, 0), (per_frame, frame)):
        groups = sequence[k] if sequence and k < len(sequence) else Dataset()
        for name in _GROUPS:
            if groups.get(name):
                found.update(groups[name].value[0])
    return found


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
