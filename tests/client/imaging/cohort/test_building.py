import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from client.imaging.cohort import (
    Cohort,
    build_cohort,
    is_current,
    pseudonym,
    remove_patient,
)
from client.imaging.frames import Frame, ImageFile
from client.imaging.outcome import Reason, Tally
from client.imaging.sequence import Collection, Sequence
from client.imaging.sources import DicomFolder
from common.plan import Input
from simulation.phantom import write_phantom
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


def test_no_identifier_is_on_disk(tmp_path):
    folder = make_cohort(tmp_path / "c")
    for path in folder.iterdir():
        assert b"patient-0-" not in path.read_bytes()


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


@pytest.mark.slow
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_the_same_images_give_the_same_cohort_whatever_their_files_are_called_and_packed(
    tmp_path_factory, data
):
    """Names, folders, the order in which a disk lists them, and lossless transfer syntaxes say nothing."""
    plan, base = small_plan(), tmp_path_factory.mktemp("same")
    (phantom,) = write_phantom(base / "phantom", 1, 4, seed=1)
    expected = _fingerprint(phantom, base / "expected", plan)
    other = base / "other"
    other.mkdir()
    files = data.draw(st.permutations(sorted(phantom.glob("*.dcm"))))
    names = data.draw(
        st.lists(
            st.text("abcxyz0189 _-", min_size=1, max_size=12),
            min_size=len(files),
            max_size=len(files),
            unique=True,
        )
    )
    for file, name in zip(files, names, strict=True):
        ds = dcmread(file)
        syntax = data.draw(
            st.sampled_from([None, RLELossless, JPEG2000Lossless, JPEGLSLossless, "deflated", "implicit"])
        )
        if syntax in ("deflated", "implicit"):
            uid = DeflatedExplicitVRLittleEndian if syntax == "deflated" else ImplicitVRLittleEndian
            ds.file_meta.TransferSyntaxUID = uid
        elif syntax:
            ds.compress(syntax, generate_instance_uid=False)
        folder = other / data.draw(st.sampled_from(["", "a", "a/b", "z"]))
        folder.mkdir(parents=True, exist_ok=True)
        ds.save_as(
            folder
            / f"{name.strip() or 'x'}{data.draw(st.sampled_from(['', '.dcm', '.IMA']))}~{len(list(other.rglob('*')))}"
        )
    (other / "labels.csv").write_text((phantom / "labels.csv").read_text())
    assert _fingerprint(other, base / "found", plan) == expected


def _fingerprint(images, folder, plan):
    source = DicomFolder(images)
    build_cohort(folder, source.read(plan.input, plan.findings), plan.input, plan.findings, b"key", "stamp")
    return Cohort.open(folder).fingerprint


def test_other_rules_read_every_image_anew(tmp_path, reads, monkeypatch):
    """A release that mends grey values must not keep the old ones under a fresh stamp."""
    from client.imaging.cohort import building
    from tests.helpers.hospital import hospital

    hospital(tmp_path / "h")
    dicom_cohort(tmp_path / "h", tmp_path / "c")
    n = len(reads)
    dicom_cohort(tmp_path / "h", tmp_path / "c")
    assert len(reads) == n
    monkeypatch.setattr(building, "RULES", building.RULES + 1)
    dicom_cohort(tmp_path / "h", tmp_path / "c")
    assert len(reads) == 2 * n
