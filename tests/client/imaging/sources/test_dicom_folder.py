"""Sequences of DICOM files and a table of labels."""

import numpy as np
import pytest

from client.imaging.outcome import Reason
from client.imaging.sources import DicomFolder, ImageIndex, NpzFile
from common.errors import DataError
from common.plan import Input
from tests.helpers.dicom import image, save
from tests.helpers.hospital import hospital, labels

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
