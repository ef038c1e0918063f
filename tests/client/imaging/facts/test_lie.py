"""Mirrored, turned, prone: what a header says of how an image lies."""

import pytest
from pydicom import Dataset

from client.imaging.facts.lie import is_turned
from tests.helpers.dicom import dataset


@pytest.mark.parametrize(
    ("told", "turned"),
    [
        (["L", "F"], False), (["LP", "FP"], False), (["L", "P"], False),
        (["R", "F"], True), (["R", "H"], True), (["F", "R"], True), (["H", "L"], True), (["L", "H"], True),
        (["R", "P"], True), (["L", "A"], True),
        (["A", "F"], False), (["P", "F"], False),  # a lateral view: another rule's
        ("AP", False), ("", False), (["L", "F", "H"], False),
    ],
)  # fmt: skip
def test_an_x_ray_s_rows_run_to_the_left_and_its_columns_to_the_feet(told, turned):
    assert is_turned(dataset(PatientOrientation=told)) is turned


@pytest.mark.parametrize(
    ("cosines", "turned"),
    [
        ([1, 0, 0, 0, 1, 0], False),
        ([1, 0, 0, 0, 0.94, -0.34], False),  # a gantry that is tilted
        ([-1, 0, 0, 0, -1, 0], True),  # prone
        ([-1, 0, 0, 0, 1, 0], True),
        ([1, 0, 0, 0, -1, 0], True),
        ([0, 1, 0, -1, 0, 0], True),
    ],
)
def test_a_slice_s_rows_run_to_the_left_and_its_columns_to_the_back(cosines, turned):
    assert is_turned(dataset(ImageOrientationPatient=cosines)) is turned


def test_what_says_nothing_is_not_turned():
    assert not is_turned(Dataset())
