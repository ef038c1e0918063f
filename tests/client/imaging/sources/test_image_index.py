"""Images that a table puts in order."""

import csv
from collections import Counter

import cv2
import numpy as np
import pytest

from client.imaging.cohort import Cohort, build_cohort
from client.imaging.outcome import Reason, Tally
from client.imaging.sources import ImageIndex
from common.errors import DataError
from common.plan import Input
from tests.helpers.tools import require_data

FINDINGS = ("pneumonia",)


def index(folder, rows, header="patient,file,day,label"):
    (folder / "index.csv").write_text("\n".join([header, *rows]) + "\n")
    return ImageIndex(folder / "index.csv")


def test_an_image_index_becomes_sequences(tmp_path):
    for k in range(3):
        cv2.imwrite(str(tmp_path / f"{k}.png"), np.full((10, 10), 100 * k, np.uint8))
    rows = ["a,2.png,5,1", "a,0.png,-2,1", "b,1.png,0,0", "c,1.png,0,", ",1.png,0,1", "b,1.png,,0"]
    found = index(tmp_path, rows).read(Input(), FINDINGS)
    assert [s.patient for s in found.sequences] == ["a", "b"]
    assert [f.position for f in found.sequences[0].frames] == [0.0, 7.0]
    assert [round(float(f.image.read()[0, 0]) * 255) for f in found.sequences[0].frames] == [0, 200]
    assert found.tally.as_dict() == {"no_patient": 1, "no_position": 1, "unlabelled": 1}


def test_order_does_for_day_and_missing_columns_are_named(tmp_path):
    found = index(tmp_path, ["a,x.png,3,1", "a,y.png,1,1"], "patient,file,order,pneumonia").read(
        Input(), FINDINGS
    )
    assert [f.position for f in found.sequences[0].frames] == [0.0, 2.0]
    for header, said in (
        ("patient,file,label,z", "'day' or 'order'"),
        ("patient,x,day,label", "'file'"),
        ("patient,file,day,z", "'label'"),
    ):
        with pytest.raises(DataError, match=said):
            index(tmp_path, ["a,b,1,1"], header).read(Input(), FINDINGS)
    with pytest.raises(DataError, match="different labels"):
        index(tmp_path, ["a,b,1,1", "a,c,2,0"]).read(Input(), FINDINGS)


def test_serial_xrays_become_seventy_one_sequences(tmp_path):
    path = require_data("serial-cxr", "index.csv")
    columns = {"patient": "patient_id", "day": "day_offset_from_first"}
    with path.open() as file:
        rows = [r for r in csv.DictReader(file) if r["day_offset_from_first"]]
    found = ImageIndex(path, columns).read(Input(max_frames=64), FINDINGS)
    assert len(found.sequences) == len({r["patient_id"] for r in rows}) == 71
    build_cohort(tmp_path / "c", found, Input(size=32, max_frames=64), FINDINGS, b"k", "s")
    cohort = Cohort.open(tmp_path / "c")
    # One (17ad0a56.png) is noted, rightly: its lower third was never transferred.
    assert cohort.tally == Tally(Counter({Reason.UNLIKE_CHEST: 1, Reason.ORDER_UNSURE: 46}))
    assert int(cohort.lengths.sum()) == len(rows)
    last_days = sorted(
        max(float(r["day_offset_from_first"]) for r in rows if r["patient_id"] == p)
        for p in {r["patient_id"] for r in rows}
    )
    np.testing.assert_allclose(sorted(float(cohort.gaps(i).sum()) for i in range(71)), last_days)


def test_days_are_numbers_or_dates_and_not_both(tmp_path):
    for k in range(2):
        cv2.imwrite(str(tmp_path / f"{k}.png"), np.full((10, 10), 100 * k, np.uint8))
    found = index(tmp_path, ["a,1.png,2024-03-01,1", "a,0.png,2024-02-28,1"]).read(Input(), FINDINGS)
    assert [f.position for f in found.sequences[0].frames] == [0.0, 2.0]
    for rows, said in (
        (["a,1.png,2024-03-01,1", "a,0.png,3,1"], "row 3: found numbers and dates"),
        (["a,0.png,soon,1"], "row 2: found 'soon'"),
    ):
        with pytest.raises(DataError, match=said):
            index(tmp_path, rows).read(Input(), FINDINGS)


def test_rows_of_an_index_that_stand_twice(tmp_path):
    twice = index(tmp_path, ["A,a.png,1,0", "A,a.png,1,0", "B,b.png,1,1"]).read(Input(), FINDINGS)
    assert [len(s.frames) for s in twice.sequences] == [1, 1]
    assert twice.tally.counts[Reason.DUPLICATE] == 1
    with pytest.raises(DataError, match="rows 2 and 3 have the same file at two places"):
        index(tmp_path, ["A,a.png,1,0", "A,a.png,2,0"]).read(Input(), FINDINGS)
    with pytest.raises(DataError, match="rows 2 and 3 have the same file at two places"):
        index(tmp_path, ["A,a.png,1,0", "A,./a.png,2,0"]).read(Input(), FINDINGS)
    with pytest.raises(DataError, match=r"row 2: the patient is a number that a spreadsheet has rounded"):
        index(tmp_path, ["1.23457E+11,a.png,1,0"]).read(Input(), FINDINGS)


def test_images_of_one_day_go_by_their_order_and_without_one_it_is_said(tmp_path):
    header = "patient,file,day,order,label"
    (one,) = index(tmp_path, ["A,z.png,1,1,0", "A,a.png,1,2,0"], header).read(Input(), FINDINGS).sequences
    assert [f.path.name for f in one.frames] == ["z.png", "a.png"]
    assert (
        index(tmp_path, ["A,z.png,1,1,0", "A,a.png,1,2,0"], header).read(Input(), FINDINGS).tally.as_dict()
        == {}
    )
    tied = index(tmp_path, ["A,z.png,1,0", "A,a.png,1,0", "A,b.png,2,0"]).read(Input(), FINDINGS)
    assert tied.tally.counts[Reason.ORDER_UNSURE] == 2


VISITS = Input(size=16, label="visit", max_frames=3)


def told(found):
    return [
        (s.patient, [f.path.name for f in s.frames], float(s.labels[0]), len(s.own)) for s in found.sequences
    ]


def test_a_patient_who_changes_is_a_sequence_a_visit(tmp_path):
    rows = [
        "a,0.png,0,0",
        "a,1.png,2,",
        "a,2.png,2,",
        "a,3.png,5.0,1",
        "a,4.png,5,1",
        "a,5.png,9,",
        "b,6.png,1,",
    ]
    for k in range(7):
        cv2.imwrite(str(tmp_path / f"{k}.png"), np.full((10, 10), 30 * k, np.uint8))
    source = index(tmp_path, rows)
    found = source.read(VISITS, FINDINGS)
    assert told(found) == [("a", ["0.png"], 0.0, 1), ("a", ["2.png", "3.png", "4.png"], 1.0, 2)]
    assert [f.position for f in found.sequences[1].frames] == [2.0, 5.0, 5.0]
    # 5.png is later than any label, and b has none; on two days the order of two images is the files'.
    assert found.tally.as_dict() == {"other_study": 1, "unlabelled": 1, "order_unsure": 4}
    build_cohort(tmp_path / "c", found, VISITS, FINDINGS, b"k", "s")
    cohort = Cohort.open(tmp_path / "c")
    assert cohort.lengths.tolist() == [1, 3]
    assert [cohort.gaps(i).tolist() for i in range(2)] == [[0.0], [0.0, 3.0, 0.0]]
    assert cohort.frames(1)[:, 0, 0].tolist() == [60, 90, 120]
    with pytest.raises(
        DataError, match=r"rows 2 and 3 are of one patient and have different labels; .*label visit"
    ):
        source.read(Input(), FINDINGS)


def test_each_image_of_the_past_is_stored_once(tmp_path):
    for k in range(4):
        cv2.imwrite(str(tmp_path / f"{k}.png"), np.full((10, 10), 50 * k, np.uint8))
    found = index(tmp_path, [f"a,{k}.png,{k},{k % 2}" for k in range(4)]).read(VISITS, FINDINGS)
    build_cohort(tmp_path / "c", found, VISITS, FINDINGS, b"k", "s")
    cohort = Cohort.open(tmp_path / "c")
    assert cohort.lengths.tolist() == [1, 2, 3, 3]
    assert cohort.labels[:, 0].tolist() == [0, 1, 0, 1]
    assert cohort.n_images == 4
    assert [cohort.frames(i)[-1, 0, 0] for i in range(4)] == [0, 50, 100, 150]


def test_what_contradicts_itself_about_visits_is_refused_by_row(tmp_path):
    for rows, header, said in (
        (
            ["a,x,1,1", "a,y,1,0"],
            "patient,file,day,label",
            "rows 2 and 3 are of one visit and have different",
        ),
        (["a,x,1,1,V1", "a,y,2,0,V1"], "patient,file,day,label,visit", "rows 2 and 3 are of one visit"),
        (["a,x,1,1,V1", "a,y,1,0,V2"], "patient,file,day,label,visit", "two visits at one time; .*'order'"),
        (["a,x,1,1,"], "patient,file,day,label,visit", "row 2: its visit is empty"),
    ):
        with pytest.raises(DataError, match=said):
            index(tmp_path, rows, header).read(VISITS, FINDINGS)
    ordered = index(tmp_path, ["a,x,1,1,V1,2", "a,y,1,0,V2,1"], "patient,file,day,label,visit,order")
    assert [s.labels[0] for s in ordered.read(VISITS, FINDINGS).sequences] == [0.0, 1.0]


def test_without_labels_the_newest_visit_is_asked_about(tmp_path):
    source = index(tmp_path, ["a,0.png,0,0", "a,1.png,2,", "a,2.png,2,"])
    (one,) = ImageIndex(source.path, labelled=False).read(VISITS, FINDINGS).sequences
    assert [f.path.name for f in one.own] == ["1.png", "2.png"]
    assert len(one.frames) == 3


def test_serial_xrays_have_a_label_a_visit():
    path = require_data("serial-cxr", "index.csv")
    columns = {"patient": "patient_id", "day": "day_offset_from_first", "label": "in_icu_at_exam"}
    found = ImageIndex(path, columns).read(Input(max_frames=64, label="visit"), FINDINGS)
    labels = {}
    for s in found.sequences:
        labels.setdefault(s.patient, []).append(float(s.labels[0]))
    assert (len(found.sequences), len(labels)) == (162, 29)
    assert sum(len(set(some)) > 1 for some in labels.values()) == 18
    assert found.tally.counts[Reason.UNLABELLED] == 71 - 29
