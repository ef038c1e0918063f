"""Labels by patient, study and accession, from CSV and parquet."""

from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from client.imaging.cohort import Cohort, build_cohort
from client.imaging.labels import read_labels
from client.imaging.sources import DicomFolder
from common.errors import DataError
from common.plan import Input
from tests.helpers.dicom import image, save

TWO = ("pneumonia", "effusion")


def csv(folder, text):
    (folder / "labels.csv").write_text(text)
    return folder / "labels.csv"


def test_parquet_says_the_same_as_csv(tmp_path):
    said = read_labels(csv(tmp_path, "patient,pneumonia,effusion\nP1,1,0\nP2,,1\n"), TWO)
    table = pa.table(
        {"patient": ["P1", "P2"], "pneumonia": pa.array([1, None], pa.int8()), "effusion": [0.0, 1.0]}
    )
    parquet.write_table(table, tmp_path / "labels.parquet")
    also = read_labels(tmp_path / "labels.parquet", TWO)
    assert said.key == also.key == "patient"
    assert said.values.keys() == also.values.keys()
    for patient, values in said.values.items():
        np.testing.assert_array_equal(values, also.values[patient])
    bools = pa.table({"study": ["1.2"], "pneumonia": [True], "effusion": [float("nan")]})
    parquet.write_table(bools, tmp_path / "bools.parquet")
    np.testing.assert_array_equal(
        read_labels(tmp_path / "bools.parquet", TWO).of("anybody")["1.2"], [1, np.nan]
    )


def test_the_narrowest_column_is_the_key_and_unknown_is_not_negative(tmp_path):
    labels = read_labels(
        csv(tmp_path, "patient,study,pneumonia\nP1,1.2,1\nP1,1.3,\nP1,1.4,0\n"), ("pneumonia",)
    )
    assert (labels.key, labels.known()) == ("study", {"1.2", "1.4"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "study,pneumonia\na,1\nb,0\na,0\nb,1\nc,1\n",
            "same study have different labels: rows 2 and 4, rows 3 and 5$",
        ),
        ("patient,pneumonia\nP1,1\n,0\n", "row 3: its patient is empty"),
        (
            "name,pneumonia\nP1,1\n",
            "a column 'patient', 'study' or 'accession' is missing; found name, pneumonia",
        ),
    ],
)
def test_contradictions_are_listed_not_guessed(tmp_path, text, said):
    with pytest.raises(DataError, match=said):
        read_labels(csv(tmp_path, text), ("pneumonia",))


def test_a_table_that_is_none_is_refused(tmp_path):
    (tmp_path / "labels.parquet").write_bytes(b"rubbish")
    with pytest.raises(DataError, match=r"labels\.parquet: not readable as parquet"):
        read_labels(tmp_path / "labels.parquet", ("pneumonia",))


def xrays(folder, patient, days):
    """One X-ray a day, each a study; the grey value is the day."""
    for day in days:
        moment = datetime(2020, 1, 1) + timedelta(days=day)
        ds = image(
            np.full((8, 8), day, np.uint16),
            PatientID=patient,
            AcquisitionDate=moment.strftime("%Y%m%d"),
            ViewPosition="PA",
        )
        ds.StudyInstanceUID, ds.AccessionNumber, ds.WindowCenter, ds.WindowWidth = (
            f"1.{ord(patient)}.{day}",
            f"{patient}{day}",
            128,
            256,
        )
        save(ds, folder / f"{patient}{day}.dcm")


def days_of(cohort, i):
    return cohort.frames(i)[:, 0, 0].tolist()


@pytest.mark.parametrize("key", ["study", "accession"])
def test_a_label_of_a_study_is_about_its_images_and_all_before(tmp_path, key):
    xrays(tmp_path, "P", [0, 3, 4, 9])
    name = (lambda p, day: f"1.{ord(p)}.{day}") if key == "study" else (lambda p, day: f"{p}{day}")
    xrays(tmp_path, "Q", [5, 6])
    rows = [f"{name('P', 3)},0", f"{name('P', 4)},1", f"{name('Q', 6)},1", f"{name('Q', 5)},"]
    csv(tmp_path, f"{key},pneumonia\n" + "\n".join(rows) + "\n")
    contract = Input(size=16, max_frames=2)
    found = DicomFolder(tmp_path).read(contract, ("pneumonia",))
    assert found.tally.as_dict() == {"other_study": 1}  # the X-ray of day 9 comes after every label
    build_cohort(tmp_path / "c", found, contract, ("pneumonia",), b"key", "s")
    cohort = Cohort.open(tmp_path / "c")
    told = {
        tuple(days_of(cohort, i)): (cohort.labels[i, 0], cohort.gaps(i).tolist()) for i in range(len(cohort))
    }
    grey = {day: int(np.rint(np.clip((day - 127.5) / 255 + 0.5, 0, 1) * 255)) for day in range(10)}
    assert told == {
        (grey[0], grey[3]): (0, [0, 3]), (grey[3], grey[4]): (1, [0, 1]), (grey[5], grey[6]): (1, [0, 1]),
    }  # fmt: skip
    assert len(set(cohort.patients)) == 2
    # Images that sequences share lie there once.
    assert (tmp_path / "c" / "frames.bin").stat().st_size == 5 * 16 * 16


def test_a_label_of_a_ct_study_is_about_its_own_slices(tmp_path):
    for study, n in (("1.1", 3), ("1.2", 4), ("1.3", 2)):
        for k in range(n):
            ds = image(
                np.full((8, 8), k, np.uint16),
                PatientID="P",
                Modality="CT",
                StudyInstanceUID=study,
                SeriesInstanceUID=f"{study}.1",
            )
            ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, 2.5 * k], [1, 0, 0, 0, 1, 0]
            save(ds, tmp_path / f"{study}-{k}.dcm")
    csv(tmp_path, "study,pneumonia\n1.1,0\n1.2,1\n")
    found = DicomFolder(tmp_path).read(Input(modality="ct"), ("pneumonia",))
    assert [(len(s.frames), s.labels[0], s.frames[-1].position) for s in found.sequences] == [
        (3, 0, 5.0),
        (4, 1, 7.5),
    ]
    assert found.tally.as_dict() == {"other_study": 2}


def test_a_labelled_study_without_an_image_is_refused_with_the_list(tmp_path):
    xrays(tmp_path, "P", [0])
    csv(tmp_path, "study,pneumonia\n1.80.0,1\n9.9,0\n")
    with pytest.raises(DataError, match=r"1 labelled studies without any image: 9\.9"):
        DicomFolder(tmp_path).read(Input(), ("pneumonia",))


def test_a_row_without_a_patient_does_not_contradict_one_that_names_one(tmp_path):
    (tmp_path / "labels.csv").write_text("study,patient,pneumonia\n1.2.3,P1,1\n1.2.4,P1,0\n1.2.3,,0\n")
    with pytest.raises(DataError, match="rows about the same study have different labels: rows 2 and 4"):
        read_labels(tmp_path / "labels.csv", ("pneumonia",))
    (tmp_path / "labels.csv").write_text("study,patient,pneumonia\n1.2.3,P1,1\n1.2.3,P2,0\n")
    read_labels(tmp_path / "labels.csv", ("pneumonia",))  # numbers that two patients have


def test_a_number_is_its_patients_where_each_row_says_whose(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("accession,patient,pneumonia\n7,P1,1\n7,P2,0\n8,P1,1\n9,,1\n9,P3,1\n")
    assert read_labels(path, ("pneumonia",)).owners() == {"7": {"P1", "P2"}, "8": {"P1"}}
    path.write_text("patient,pneumonia\nP1,1\n")
    assert read_labels(path, ("pneumonia",)).owners() == {}


def test_labels_of_patients_say_nothing_of_a_visit(tmp_path):
    path = csv(tmp_path, "patient,pneumonia\nP1,1\n")
    with pytest.raises(DataError, match="found labels of patients, the plan learns those of visits"):
        read_labels(path, ("pneumonia",), "visit")
    assert (
        read_labels(csv(tmp_path, "patient,study,pneumonia\nP1,1.2,1\n"), ("pneumonia",), "visit").key
        == "study"
    )
