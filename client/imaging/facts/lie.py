"""Whether an image lies as images are shown: of a frontal X-ray the patient's right at the left edge and the
head above, of an axial slice the patient's back below, seen from the feet.

Witnesses: PatientOrientation (PS3.3 C.7.6.1.1.1) and ImageOrientationPatient, whose x runs to the patient's
left and whose y to the back. One that is not there, or odd, says nothing.
"""

from pydicom import Dataset

from client.imaging.facts.text import values

OBLIQUE = 0.7
"""Cosine of the angle up to which a slice is tilted, and not turned."""


def is_turned(ds: Dataset) -> bool:
    """Whether a witness says that it is mirrored or turned: its rows do not run to the patient's left, or its
    columns neither to the feet nor to the back."""
    return _by_directions(values(ds, "PatientOrientation")) or _by_cosines(
        values(ds, "ImageOrientationPatient")
    )


def _by_directions(told: list[str]) -> bool:
    if len(told) != 2 or not all(told):
        return False
    row, column = told[0][0], told[1][0]
    sideways = {row, column} & {"L", "R"} and {row, column} & {"H", "F", "A", "P"}
    return bool(sideways) and (row != "L" or column not in "FP")


def _by_cosines(told: list[str]) -> bool:
    try:
        cosines = [float(one) for one in told]
    except ValueError:
        return False
    return len(cosines) == 6 and not (cosines[0] >= OBLIQUE and cosines[4] >= OBLIQUE)
