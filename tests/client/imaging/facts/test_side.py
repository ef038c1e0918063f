"""Where the patient's right is: by what the file says, and nobody's guess."""

import numpy as np
import pytest

from client.imaging.facts.side import LEFT, RIGHT, UNKNOWN, right_of
from tests.helpers.dicom import image


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, UNKNOWN),
        ({"PatientOrientation": ["L", "F"]}, LEFT),
        ({"PatientOrientation": ["R", "F"]}, RIGHT),  # mirrored
        ({"PatientOrientation": ["LP", "F"]}, LEFT),
        ({"PatientOrientation": ["A", "F"]}, UNKNOWN),
        ({"PatientOrientation": ["F", "L"]}, UNKNOWN),  # lies on its side
        ({"PatientOrientation": ""}, UNKNOWN),
        ({"PatientOrientation": ["L"]}, UNKNOWN),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}, LEFT),
        ({"ImageOrientationPatient": [-1, 0, 0, 0, 1, 0]}, RIGHT),
        ({"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}, UNKNOWN),
        ({"ImageOrientationPatient": [0.7, 0.7, 0, 0, 0, -1]}, UNKNOWN),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "PatientOrientation": ["L", "P"]}, LEFT),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "PatientOrientation": ["R", "P"]}, UNKNOWN),
    ],
)
def test_the_side_is_what_the_file_says(said, expected):
    ds = image(np.zeros((8, 8), np.uint16))
    for keyword in ("PatientOrientation", "ImageOrientationPatient"):
        if keyword in ds:
            del ds[keyword]
    for keyword, value in said.items():
        setattr(ds, keyword, value)
    assert right_of(ds) == expected
