"""Arrays, and whose images they are."""

import numpy as np
import pytest

from client.imaging.outcome import Reason
from client.imaging.sources import NpzFile
from common.errors import DataError
from common.plan import Input

FINDINGS = ("pneumonia",)


def test_its_images_have_no_visits(tmp_path):
    np.savez(tmp_path / "m.npz", images=np.zeros((2, 4, 4), np.uint8), labels=np.array([0, 1]))
    with pytest.raises(DataError, match="no visits, the plan learns labels of visits"):
        NpzFile(tmp_path / "m.npz").read(Input(label="visit"), FINDINGS)


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


def test_patients_of_an_npz_that_are_none(tmp_path):
    images, labels = np.zeros((4, 28, 28), np.uint8), np.array([0, 1, 0, 1])
    np.savez(tmp_path / "a.npz", images=images, labels=labels, patient_id=np.array([1, np.nan, 2.0, 2.0]))
    found = NpzFile(tmp_path / "a.npz").read(Input(), FINDINGS)
    assert [s.patient for s in found.sequences] == ["1", "2", "2"]
    assert found.tally.as_dict() == {"no_patient": 1}
    np.savez(tmp_path / "b.npz", images=images, labels=labels, patient_id=np.array([1, 2]))
    with pytest.raises(DataError, match="expected one an image"):
        NpzFile(tmp_path / "b.npz").read(Input(), FINDINGS)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["Train,0,P1"], "found the split 'Train', expected train, val, test"),
        (["train,0,P1", "train,0,P2"], "row 3: names another patient than a row before"),
        (["train,1,P1", "train,4,P2"], "row 3: found the index 4, train has 4 images; indices count from 0"),
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
