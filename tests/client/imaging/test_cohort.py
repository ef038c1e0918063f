import json
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.imaging.cohort import (
    Cohort,
    build_cohort,
    is_current,
    pseudonym,
    remove_patient,
    require_trainable,
    split_position,
)
from client.imaging.frames import Frame, ImageFile
from client.imaging.outcome import Reason, Tally
from client.imaging.pixels import fit
from client.imaging.sequence import Collection, Sequence
from common.errors import DataError
from common.plan import Input, Split
from tests.helpers.cohorts import make_cohort, make_sequences
from tests.helpers.dicom import image, save
from tests.helpers.plans import small_plan


def test_a_cohort_holds_what_went_in(tmp_path):
    sequences = make_sequences(12)
    cohort = Cohort.open(make_cohort(tmp_path / "c", 12))
    assert len(cohort) == 12
    by_pseudonym = {pseudonym(s.patient, b"key"): s for s in sequences}
    for i, patient in enumerate(cohort.patients):
        source = by_pseudonym[patient]
        expected = np.stack([np.rint(frame.image.read() * 255) for frame in source.frames]).astype(np.uint8)
        np.testing.assert_array_equal(cohort.frames(i), expected)
        np.testing.assert_allclose(cohort.gaps(i), [0.0] + [3.0] * (len(source.frames) - 1))
        np.testing.assert_array_equal(cohort.labels[i], source.labels)


def test_frames_stay_in_the_file(tmp_path):
    cohort = Cohort.open(make_cohort(tmp_path / "c"))
    base = cohort.frames(0)
    while isinstance(base.base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        cohort.frames(0)[...] = 0


def test_no_identifier_is_on_disk(tmp_path):
    folder = make_cohort(tmp_path / "c")
    for path in folder.iterdir():
        assert b"patient-0-" not in path.read_bytes()


def test_several_folders_are_one_cohort(tmp_path):
    a, b = make_cohort(tmp_path / "a", 10, seed=1), make_cohort(tmp_path / "b", 7, seed=2)
    one, two, both = Cohort.open(a), Cohort.open(b), Cohort.open(a, b)
    assert len(both) == 17
    np.testing.assert_array_equal(both.frames(12), two.frames(2))
    np.testing.assert_array_equal(both.frames(3), one.frames(3))
    with pytest.raises(DataError, match="together"):
        Cohort.open(a, make_cohort(tmp_path / "other", 7, plan=small_plan(input=Input(size=24))))


def test_a_bad_frame_is_counted_and_a_patient_without_any_left_out(tmp_path):
    broken = ImageFile(tmp_path / "no-picture.png")
    good = make_sequences(4)
    half = Sequence(
        "half",
        (Frame(0, broken), Frame(2, good[0].frames[0].image), Frame(5, good[0].frames[0].image)),
        good[0].labels,
    )
    none = Sequence("none", (Frame(0, broken),), good[0].labels)
    build_cohort(
        tmp_path / "c", Collection([*good, half, none], Tally()), Input(size=16), ("pneumonia",), b"key", "s"
    )
    cohort = Cohort.open(tmp_path / "c")
    assert len(cohort) == 5
    assert cohort.tally.as_dict() == {"broken": 2, "no_frames": 1}
    assert cohort.tally.skipped_files == 2
    i = list(cohort.patients).index(pseudonym("half", b"key"))
    np.testing.assert_allclose(cohort.gaps(i), [0, 3])


def test_rebuilt_only_for_another_stamp(tmp_path):
    folder = make_cohort(tmp_path / "c")
    assert is_current(folder, "stamp")
    assert not is_current(folder, "other")
    assert not is_current(tmp_path / "absent", "stamp")
    (folder / "cohort.json").write_text("{")
    assert not is_current(folder, "stamp")


def test_a_damaged_cohort_is_refused_in_words(tmp_path):
    for name in ("frames.bin", "frames.arrow", "sequences.arrow", "cohort.json"):
        folder = make_cohort(tmp_path / name.replace(".", "-"))
        (folder / name).write_bytes(b"{}")
        with pytest.raises(DataError, match="not a whole cohort"):
            Cohort.open(folder)
    folder = make_cohort(tmp_path / "old")
    about = json.loads((folder / "cohort.json").read_text())
    (folder / "cohort.json").write_text(json.dumps({**about, "format": 0}))
    with pytest.raises(DataError, match="format 0"):
        Cohort.open(folder)
    shutil.rmtree(folder)
    with pytest.raises(DataError):
        Cohort.open(folder)


@given(st.floats(0, 0.45), st.floats(0.01, 0.45))
def test_a_patient_is_in_one_split_and_shares_are_kept(tmp_path_factory, validation, test):
    shares = Split(validation=validation, test=test)
    where = np.array([split_position(f"{i:032x}") for i in range(3000)])
    assert abs((where < test).mean() - test) < 0.05
    folder = tmp_path_factory.getbasetemp() / "split-cohort"
    if not folder.exists():
        sequences = make_sequences(40)
        again = [Sequence(s.patient, s.frames[:1], s.labels) for s in sequences]  # two sequences a patient
        build_cohort(
            folder, Collection(sequences + again, Tally()), Input(size=16), ("pneumonia",), b"key", "s"
        )
    cohort = Cohort.open(folder)
    parts = {name: set(cohort.patients[i]) for name, i in cohort.split(shares).items()}
    assert sum(len(p) for p in parts.values()) == len(set().union(*parts.values())) == 40


def test_who_else_is_there_does_not_move_a_patient(tmp_path):
    few, many = (
        Cohort.open(make_cohort(tmp_path / "few", 10)),
        Cohort.open(make_cohort(tmp_path / "many", 30)),
    )
    split = small_plan().split
    tests = [set(c.patients[c.split(split)["test"]]) for c in (few, many)]
    assert tests[0] == tests[1] & set(few.patients)


def test_shapes_are_kept_by_padding(tmp_path):
    wide = np.zeros((10, 30), np.float32)
    wide[:, 10:20] = 1.0
    square = fit(wide, 30, 8)
    assert square.shape == (30, 30)
    assert (square[10:20, 10:20] == 255).all()
    assert square.astype(int).sum() == 255 * 100


def test_sixteen_bits_hold_more():
    grey = np.full((4, 4), 0.12345, np.float32)
    assert fit(grey, 4, 16)[0, 0] == round(0.12345 * 65535)


def test_areas_are_averaged():
    grey = np.kron(np.array([[0.0, 1.0], [0.5, 0.25]]), np.ones((4, 4))).astype(np.float32)
    np.testing.assert_array_equal(fit(grey, 2, 8), [[0, 255], [128, 64]])


def test_untrainable_cohorts_are_refused(tmp_path):
    sequences = [s for s in make_sequences(40) if s.labels[0] == 1]
    build_cohort(
        tmp_path / "one", Collection(sequences, Tally()), Input(size=16), ("pneumonia",), b"key", "s"
    )
    with pytest.raises(
        DataError, match=r"here: pneumonia: found only positive ones among \d+ training patients"
    ):
        require_trainable(Cohort.open(tmp_path / "one"), Split(), 4, "here")
    few = Cohort.open(make_cohort(tmp_path / "few", 30))
    n_train = len(few.split(Split())["train"])
    assert n_train < 30
    require_trainable(few, Split(), n_train, "here")
    with pytest.raises(
        DataError, match=f"here: found {n_train} training patients, the plan's minimum is {n_train + 1}"
    ):
        require_trainable(few, Split(), n_train + 1, "here")


def dicom_cohort(folder, place, contract=None, **more):
    from client.imaging.sources import DicomFolder

    found = DicomFolder(folder).read(contract or Input(size=16), ("pneumonia",))
    build_cohort(place, found, contract or Input(size=16), ("pneumonia",), b"key", "s", **more)
    return Cohort.open(place)


@pytest.fixture
def reads(monkeypatch):
    """Which files are decoded."""
    from client.imaging import decoding

    decoded = []
    frames_of = decoding.frames_of

    def noted(wanted, contract):
        wanted = list(wanted)
        decoded.extend(w.path.name for w in wanted)
        return frames_of(wanted, contract)

    monkeypatch.setattr(decoding, "frames_of", noted)
    return decoded


def test_what_did_not_change_is_not_read_again(tmp_path, reads):
    from tests.helpers.hospital import hospital, labels

    folder = hospital(tmp_path / "h")
    dicom_cohort(folder, tmp_path / "c")
    assert len(reads) == 9
    reads.clear()
    save(image(np.full((8, 8), 200, np.uint16), PatientID="P9"), folder / "new.dcm")
    save(
        image(np.full((8, 8), 250, np.uint16), PatientID="P0", AcquisitionDate="20200101"), folder / "0-3.dcm"
    )
    (folder / "1-1.dcm").unlink()
    labels(folder, {"P0": 0, "P1": 1, "P2": 0, "P9": 1})
    grown = dicom_cohort(folder, tmp_path / "c")
    assert sorted(reads) == ["0-3.dcm", "new.dcm"]
    assert grown.fingerprint == dicom_cohort(folder, tmp_path / "anew").fingerprint
    reads.clear()
    dicom_cohort(folder, tmp_path / "c", Input(size=32))
    assert len(reads) == 9  # another size is another image


def test_equal_cohorts_have_equal_fingerprints_wherever_their_files_were(tmp_path):
    from tests.helpers.hospital import hospital

    one = dicom_cohort(hospital(tmp_path / "a"), tmp_path / "ca")
    other = dicom_cohort(hospital(tmp_path / "b"), tmp_path / "cb")
    assert one.fingerprint == other.fingerprint
    assert one.fingerprint != dicom_cohort(hospital(tmp_path / "d", images=2), tmp_path / "cd").fingerprint


def test_a_patient_who_is_removed_leaves_no_trace_and_the_others_as_they_were(tmp_path):
    from tests.helpers.hospital import hospital

    folder = hospital(tmp_path / "h", patients=4)
    before = dicom_cohort(folder, tmp_path / "c")
    gone = pseudonym("P2", b"key")
    kept = {p: before.frames(i).copy() for i, p in enumerate(before.patients) if p != gone}
    assert remove_patient(tmp_path / "c", gone) == (1, 3)
    after = Cohort.open(tmp_path / "c")
    assert {p: after.frames(i).tolist() for i, p in enumerate(after.patients)} == {
        p: f.tolist() for p, f in kept.items()
    }
    assert [after.gaps(i).tolist() for i in range(3)] == [[0, 2, 2]] * 3
    assert gone.encode() not in b"".join(path.read_bytes() for path in (tmp_path / "c").iterdir())
    assert (tmp_path / "c" / "frames.bin").stat().st_size == 9 * 256
    without = dicom_cohort(folder, tmp_path / "w", forgotten={gone})
    assert without.fingerprint == after.fingerprint
    assert without.tally.counts[Reason.FORGOTTEN] == 1
    assert remove_patient(tmp_path / "c", gone) == (0, 0)


def test_a_padded_batch_is_its_sequences_one_by_one(tmp_path):
    cohort = Cohort.open(make_cohort(tmp_path / "a", 9), make_cohort(tmp_path / "b", 7, seed=2))
    rng = np.random.default_rng(0)
    alike = np.flatnonzero(cohort.lengths == cohort.lengths[0])
    for indices in (rng.permutation(len(cohort)), np.arange(9), np.array([12]), alike[alike < 9]):
        frames, gaps = cohort.padded(indices)
        for row, i in enumerate(indices):
            n = cohort.lengths[i]
            assert np.array_equal(frames[row, :n], cohort.frames(i))
            assert np.array_equal(gaps[row, :n], cohort.gaps(i))
            assert not frames[row, n:].any()
            assert not gaps[row, n:].any()
