"""Which images make a sequence: rules with examples as a department has them."""

from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from client.imaging.choosing import choose_images
from client.imaging.dicom import Header, read_headers
from client.imaging.facts.image_kind import Kind
from client.imaging.outcome import Reason, Skipped, Tally
from client.imaging.sequence import order_headers
from tests.helpers.dicom import RAMP, image, save


def slice_(uid, position, series="1", **more):
    return Header(Path(f"{uid}.dcm"), "P", uid, series, None, position, "scanner", (4, 4), **more)


def xray(uid, view):
    return Header(Path(f"{uid}.dcm"), "P", uid, "1", datetime(2020, 1, 1), None, "scanner", (4, 4), view=view)


def test_lateral_views_are_left_out_and_unknown_ones_noted():
    tally = Tally()
    kept = order_headers([xray("a", "frontal"), xray("b", "other"), xray("c", "unknown")], "xray", tally)
    assert [h.uid for h in kept] == ["a", "c"]
    assert tally.counts[Reason.NOT_FRONTAL] == tally.counts[Reason.VIEW_UNKNOWN] == 1
    assert tally.skipped_files == 1
    assert order_headers([xray("b", "other")], "xray", Tally()) == []


def test_localisers_and_captures_are_no_slices_however_many():
    tally = Tally()
    scan = [slice_(f"s{i}", float(i), "scan") for i in range(3)]
    others = [slice_(f"l{i}", float(i), "localiser", kind=Kind.NOT_A_SLICE) for i in range(9)]
    assert order_headers([*others, *scan], "ct", tally) == scan
    assert tally.counts[Reason.NOT_A_SLICE] == 9
    assert order_headers(others, "ct", Tally()) == []


def test_the_series_with_most_places_is_taken_then_the_thinner():
    thick = [slice_(f"k{i}", float(i), "9", thickness=5.0) for i in range(4)]
    thin = [slice_(f"n{i}", float(i), "1", thickness=1.0) for i in range(4)]
    twice = [slice_(f"t{i}", float(i // 3), "5", thickness=0.5) for i in range(6)]  # six files, two places
    tally = Tally()
    assert order_headers([*thick, *thin, *twice], "ct", tally) == thin
    assert tally.counts[Reason.OTHER_SERIES] == 10


def test_a_place_counts_once_and_gaps_are_noted():
    tally = Tally()
    ordered = order_headers(
        [slice_("a", 0.0), slice_("b", 0.001), slice_("c", 2.0), slice_("d", 4.0), slice_("e", 10.0)],
        "ct",
        tally,
    )
    assert [h.uid for h in ordered] == ["a", "c", "d", "e"]
    assert (tally.counts[Reason.SAME_PLACE], tally.counts[Reason.SLICES_MISSING]) == (1, 1)
    even = Tally()
    order_headers([slice_(str(i), 2.0 * i) for i in range(5)], "ct", even)
    assert even.counts[Reason.SLICES_MISSING] == 0


def ct(**tags):
    return image(RAMP, Modality="CT", SeriesInstanceUID="1.2", **tags)


def test_without_geometry_the_location_places_a_slice_and_without_that_its_number(tmp_path):
    by_location = read_headers(
        save(ct(SliceLocation=-12.5, InstanceNumber=4), tmp_path / "a.dcm"), "ct"
    ).images[0]
    by_number = read_headers(save(ct(InstanceNumber=4, SliceThickness=2.5), tmp_path / "b.dcm"), "ct").images[
        0
    ]
    assert (by_location.position, by_location.placed_by) == (-12.5, "slice location")
    assert (by_number.position, by_number.placed_by) == (10.0, "instance number")
    tally = Tally()
    order_headers([by_number], "ct", tally)
    assert tally.counts[Reason.PLACED_BY_NUMBER] == 1
    with pytest.raises(Skipped) as e:
        read_headers(save(ct(), tmp_path / "c.dcm"), "ct")
    assert e.value.reason == Reason.NO_POSITION


def test_slices_of_one_series_are_placed_by_one_rule():
    tally = Tally()
    mixed = [slice_("a", 100.0), slice_("b", 102.0), slice_("c", 3.0, placed_by="instance number")]
    assert [h.uid for h in order_headers(mixed, "ct", tally)] == ["a", "b"]
    assert tally.counts[Reason.NO_POSITION] == 1


def test_of_two_copies_the_whole_one_is_taken(tmp_path):
    whole = save(image(np.arange(64, dtype=np.uint16).reshape(8, 8), ViewPosition="PA"), tmp_path / "b2.dcm")
    cut = tmp_path / "b1.dcm"
    cut.write_bytes(whole.read_bytes()[:-60])
    headers = [read_headers(path, "xray").images[0] for path in (cut, whole)]
    tally = Tally()
    for some in (headers, headers[::-1]):
        (kept,) = choose_images(some, "xray", tally)
        assert kept.path == whole
    assert tally.counts[Reason.DUPLICATE] == 2


@pytest.mark.parametrize(("told", "turned"), [(["L", "F"], 0), (["R", "F"], 1), (["F", "R"], 1)])
def test_an_image_that_lies_otherwise_is_used_and_noted(tmp_path, told, turned):
    path = save(image(RAMP, PatientOrientation=told, ViewPosition="PA"), tmp_path / "a.dcm")
    tally = Tally()
    assert len(order_headers(read_headers(path, "xray").images, "xray", tally)) == 1
    assert tally.counts[Reason.TURNED] == turned


def test_a_prone_slice_is_noted(tmp_path):
    tags = {"ImagePositionPatient": [0, 0, 1], "ImageOrientationPatient": [-1, 0, 0, 0, -1, 0]}
    tally = Tally()
    order_headers(read_headers(save(ct(**tags), tmp_path / "a.dcm"), "ct").images, "ct", tally)
    assert tally.as_dict() == {"turned": 1}
