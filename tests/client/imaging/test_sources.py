import csv
import os
from collections import Counter

import cv2
import numpy as np
import pytest

from client.imaging.cohort import Cohort, build_cohort
from client.imaging.outcome import Reason, Tally
from client.imaging.sources import DicomFolder, ImageIndex, NpzFile, fingerprint
from common.errors import DataError
from common.plan import Input
from tests.helpers.dicom import image, save
from tests.helpers.hospital import hospital, labels
from tests.helpers.tools import require_data

FINDINGS = ("pneumonia",)


def test_dicom_files_become_sequences_in_order_of_time(tmp_path):
    found = DicomFolder(hospital(tmp_path / "h")).read(Input(), FINDINGS)
    assert [s.patient for s in found.sequences] == ["P0", "P1", "P2"]
    assert [s.labels[0] for s in found.sequences] == [0, 1, 0]
    for sequence in found.sequences:
        assert [f.position for f in sequence.frames] == [0, 2, 4]
        greys = [f.image.read()[0, 0] for f in sequence.frames]
        assert greys == sorted(greys)
        assert greys[0] < greys[-1]


def test_bad_files_are_counted_and_never_fatal(tmp_path):
    folder = hospital(tmp_path / "h")
    (folder / "junk").write_text("hello")
    (folder / "sub").mkdir()
    save(image(np.zeros((4, 4), np.uint16), PatientID="P0", Modality="MR"), folder / "sub" / "mr.dcm")
    (folder / ".hidden").write_text("not looked at")
    found = DicomFolder(folder).read(Input(), FINDINGS)
    assert found.tally.as_dict() == {"not_dicom": 1, "other_modality": 1, "view_unknown": 9}
    assert len(found.sequences) == 3


def test_images_without_a_label_are_counted(tmp_path):
    folder = hospital(tmp_path / "h")
    labels(folder, {"P0": 0, "P1": ""})
    found = DicomFolder(folder).read(Input(), FINDINGS)
    assert [s.patient for s in found.sequences] == ["P0"]
    assert found.tally.counts[Reason.UNLABELLED] == 2


def test_labels_without_an_image_are_refused_with_the_list(tmp_path):
    folder = hospital(tmp_path / "h")
    labels(folder, {"P0": 0, "P1": 1, "P2": 0, "GHOST-7": 1, "GHOST-8": 1})
    with pytest.raises(DataError, match=r"2 labelled patient\(s\) without any image: GHOST-7, GHOST-8"):
        DicomFolder(folder).read(Input(), FINDINGS)


def test_unless_an_unreadable_file_may_be_theirs(tmp_path):
    folder = hospital(tmp_path / "h")
    labels(folder, {"P0": 0, "P1": 1, "P2": 0, "P3": 1})
    (folder / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 40)
    found = DicomFolder(folder).read(Input(), FINDINGS)
    assert found.tally.counts[Reason.NO_FRAMES] == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("patient,pneumonia\nP0,2\n", "row 2: found the label '2', expected 0, 1 or nothing"),
        ("patient,fever\nP0,1\n", "the column 'pneumonia' is missing; found patient, fever"),
        ("", "the column 'pneumonia' is missing; found none"),
        (
            "patient,pneumonia\nP0,1\nP0,0\n",
            "rows about the same patient have different labels: rows 2 and 3",
        ),
    ],
)
def test_odd_labels_are_refused_by_row(tmp_path, text, said):
    folder = hospital(tmp_path / "h", patients=1)
    (folder / "labels.csv").write_text(text)
    with pytest.raises(DataError, match=said):
        DicomFolder(folder).read(Input(), FINDINGS)


def test_missing_sources_are_refused(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        DicomFolder(tmp_path / "absent", labels=tmp_path / "l.csv").files()
    for source in (ImageIndex(tmp_path / "absent.csv"), NpzFile(tmp_path / "absent.npz")):
        with pytest.raises(DataError, match="no such file"):
            source.files()


def test_the_fingerprint_changes_with_any_file(tmp_path):
    folder = hospital(tmp_path / "h")
    before = fingerprint(DicomFolder(folder))
    assert fingerprint(DicomFolder(folder)) == before
    os.utime(folder / "0-1.dcm", ns=(1, 1))
    touched = fingerprint(DicomFolder(folder))
    (folder / "0-1.dcm").unlink()
    assert len({before, touched, fingerprint(DicomFolder(folder))}) == 3


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


def test_a_medmnist_file_keeps_patients_together(tmp_path):
    images = np.arange(6 * 16, dtype=np.uint8).reshape(6, 4, 4)
    path = tmp_path / "m.npz"
    np.savez(
        path,
        train_images=images[:4],
        train_labels=np.array([[0], [1], [1], [0]]),
        val_images=images[4:],
        val_labels=np.array([[1], [0]]),
    )
    assert len(NpzFile(path).read(Input(), FINDINGS).sequences) == 6
    (tmp_path / "patient_map.csv").write_text(
        "split,index,patient_id\ntrain,0,a\ntrain,1,b\nval,0,b\nval,1,a\ntrain,3,\n"
    )
    found = NpzFile(path).read(Input(), FINDINGS)
    assert [(s.patient, s.labels[0]) for s in found.sequences] == [("a", 0), ("b", 1), ("b", 1), ("a", 0)]
    assert found.tally.counts[Reason.NO_PATIENT] == 2
    np.testing.assert_allclose(found.sequences[1].frames[0].image.read(), images[1] / 255, rtol=1e-6)


@pytest.mark.parametrize(
    "arrays",
    [
        {"train_images": np.zeros((2, 4, 4), np.float32), "train_labels": np.zeros(2)},
        {"train_images": np.zeros((2, 4, 4, 3), np.uint8), "train_labels": np.zeros(2)},
        {"train_images": np.zeros((2, 4, 4), np.uint8), "train_labels": np.array([0, 5])},
        {"train_images": np.zeros((2, 4, 4), np.uint8), "train_labels": np.zeros(3)},
        {"other": np.zeros(3)},
    ],
)
def test_other_npz_files_are_refused(tmp_path, arrays):
    np.savez(tmp_path / "m.npz", **arrays)
    with pytest.raises(DataError, match=r"m\.npz"):
        NpzFile(tmp_path / "m.npz").read(Input(), FINDINGS)


def test_rubbish_and_pickles_are_refused(tmp_path):
    (tmp_path / "m.npz").write_bytes(b"rubbish")
    with pytest.raises(DataError, match=r"not an \.npz"):
        NpzFile(tmp_path / "m.npz").read(Input(), FINDINGS)
    np.savez(tmp_path / "p.npz", train_images=np.array([{}], object), train_labels=np.zeros(1))
    with pytest.raises(DataError, match=r"not an \.npz"):
        NpzFile(tmp_path / "p.npz").read(Input(), FINDINGS)


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


def person(folder, patient, day, name="Doe^Jane", sex="F", born="19500101", **tags):
    ds = image(
        np.full((8, 8), day, np.uint16),
        PatientID=patient,
        PatientName=name,
        PatientSex=sex,
        PatientBirthDate=born,
    )
    ds.AcquisitionDate, ds.ViewPosition, ds.StudyInstanceUID = f"202001{day:02d}", "PA", f"1.2.{day}"
    for tag, value in tags.items():
        setattr(ds, tag, value)
    return save(ds, folder / f"{patient}-{day}-{len(list(folder.iterdir()))}.dcm")


def read(folder, text):
    (folder / "labels.csv").write_text(text)
    found = DicomFolder(folder).read(Input(), FINDINGS)
    return {s.patient: len(s.frames) for s in found.sequences}, found.tally.as_dict()


def test_an_id_that_two_people_have_is_nobody_s(tmp_path):
    person(tmp_path, "A", 1)
    person(tmp_path, "A", 2, name="Doe-Smith^Jane")  # she married
    person(tmp_path, "UNKNOWN", 3)
    person(tmp_path, "UNKNOWN", 4, name="Roe^Richard", sex="M", born="19800101")
    person(tmp_path, "100", 5, IssuerOfPatientID="ONE")
    person(tmp_path, "100", 6, IssuerOfPatientID="TWO")
    sequences, tally = read(tmp_path, "patient,pneumonia\nA,1\nUNKNOWN,1\n100,0\n")
    assert (sequences, tally) == ({"A": 2}, {"two_people": 2})


def test_an_accession_number_that_two_patients_have_says_nothing_unless_the_table_does(tmp_path):
    for patient, day in (("A", 1), ("B", 2), ("C", 3)):
        person(tmp_path, patient, day, AccessionNumber="77" if patient != "C" else "78")
    sequences, tally = read(tmp_path, "accession,pneumonia\n77,1\n78,0\n")
    assert (sequences, tally) == ({"C": 1}, {"unlabelled": 2, "key_shared": 2})
    sequences, tally = read(tmp_path, "patient,accession,pneumonia\nA,77,1\nB,77,0\nC,78,0\n")
    assert (sequences, tally) == ({"A": 1, "B": 1, "C": 1}, {})
    sequences, tally = read(tmp_path, "patient,accession,pneumonia\nA,77,1\n")
    assert (sequences, tally) == ({"A": 1}, {"unlabelled": 2})


def test_a_label_whose_images_all_fall_out_is_counted(tmp_path):
    person(tmp_path, "A", 1)
    person(tmp_path, "A", 2, ViewPosition="LL")
    sequences, tally = read(tmp_path, "study,pneumonia\n1.2.1,0\n1.2.2,1\n")
    assert (sequences, tally) == ({"A": 1}, {"not_frontal": 1, "no_frames": 1})


def test_files_of_others_excuse_no_missing_patient(tmp_path):
    person(tmp_path, "A", 1)
    person(tmp_path, "B", 2, Modality="MR")
    for k in range(5):
        (tmp_path / f"junk{k}.bin").write_bytes(b"rubbish")
    sequences, tally = read(tmp_path, "patient,pneumonia\nA,1\nB,0\n")
    assert sequences == {"A": 1}
    assert tally["no_frames"] == tally["other_modality"] == 1  # B's own file was no X-ray
    with pytest.raises(DataError, match=r"1 labelled patient\(s\) without any image: Z"):
        read(tmp_path, "patient,pneumonia\nA,1\nB,0\nZ,1\n")


def test_zeros_that_a_spreadsheet_took_are_noticed(tmp_path):
    person(tmp_path, "00012", 1)
    for written in ("12", "12.0", "012"):
        with pytest.raises(DataError, match="the images have 00012; zeros were lost or added"):
            read(tmp_path, f"patient,pneumonia\n{written},1\n")


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


def test_patients_of_an_npz_that_are_none(tmp_path):
    images, labels = np.zeros((4, 28, 28), np.uint8), np.array([0, 1, 0, 1])
    np.savez(tmp_path / "a.npz", images=images, labels=labels, patient_id=np.array([1, np.nan, 2.0, 2.0]))
    found = NpzFile(tmp_path / "a.npz").read(Input(), FINDINGS)
    assert [s.patient for s in found.sequences] == ["1", "2", "2"]
    assert found.tally.as_dict() == {"no_patient": 1}
    np.savez(tmp_path / "b.npz", images=images, labels=labels, patient_id=np.array([1, 2]))
    with pytest.raises(DataError, match="expected one an image"):
        NpzFile(tmp_path / "b.npz").read(Input(), FINDINGS)


def test_a_folder_that_is_a_link_counts_and_one_that_cannot_be_listed_is_refused(tmp_path):
    whole = hospital(tmp_path / "whole")
    one, *_ = sorted(whole.glob("*.dcm"))
    (tmp_path / "far").mkdir()
    os.replace(one, tmp_path / "far" / one.name)
    (whole / "linked").symlink_to(tmp_path / "far")
    (whole / "round").symlink_to(whole)  # to itself
    found = DicomFolder(whole).read(Input(), FINDINGS)
    assert sum(len(s.frames) for s in found.sequences) == 9
    (whole / "nowhere.dcm").symlink_to(tmp_path / "gone.dcm")
    os.mkfifo(whole / "pipe")
    assert DicomFolder(whole).read(Input(), FINDINGS).tally.counts[Reason.BROKEN] == 1


def test_a_folder_that_cannot_be_listed_is_refused_by_name(tmp_path, monkeypatch):
    """Root may list all: in place of one who may not."""
    whole = hospital(tmp_path / "h")
    (whole / "closed").mkdir()
    scandir = os.scandir

    def closed(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(DataError, match="closed: cannot be listed: Permission denied"):
        DicomFolder(whole).read(Input(), FINDINGS)


def test_rows_of_an_index_that_stand_twice(tmp_path):
    twice = index(tmp_path, ["A,a.png,1,0", "A,a.png,1,0", "B,b.png,1,1"]).read(Input(), FINDINGS)
    assert [len(s.frames) for s in twice.sequences] == [1, 1]
    assert twice.tally.counts[Reason.DUPLICATE] == 1
    with pytest.raises(DataError, match="rows 2 and 3 have the same file at two places"):
        index(tmp_path, ["A,a.png,1,0", "A,a.png,2,0"]).read(Input(), FINDINGS)
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


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["Train,0,P1"], "found the split 'Train', expected train, val, test"),
        (["train,0,P1", "train,0,P2"], "row 3: names another patient than a row before"),
        (["train,0,1.2E+11"], "a number that a spreadsheet has rounded"),
    ],
)
def test_a_map_of_patients_is_read_in_one_way_or_refused(tmp_path, rows, said):
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "m.npz",
        train_images=rng.integers(0, 255, (4, 8, 8), np.uint8),
        train_labels=np.array([[0], [1]] * 2),
    )
    (tmp_path / "patient_map.csv").write_text("\n".join(["split,index,patient_id", *rows]) + "\n")
    with pytest.raises(DataError, match=said):
        NpzFile(tmp_path / "m.npz", splits=("train",)).read(Input(), FINDINGS)


def test_ids_of_an_npz_are_texts_and_nan_is_nobody(tmp_path):
    images, labels_ = np.zeros((4, 8, 8), np.uint8), np.array([0, 1, 0, 1])
    for ids in (np.array(["P1", "P1", "nan", ""]), np.array([b"P1", b"P1", b"nan", b""])):
        np.savez(tmp_path / "m.npz", images=images, labels=labels_, patient_id=ids)
        found = NpzFile(tmp_path / "m.npz").read(Input(), FINDINGS)
        assert [s.patient for s in found.sequences] == ["P1", "P1"]
        assert found.tally.counts[Reason.NO_PATIENT] == 2
