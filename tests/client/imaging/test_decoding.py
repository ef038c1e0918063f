"""One path from files to frames: training and prediction see the same images, and count the same losses."""

import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread

from client.imaging.cohort import Cohort, build_cohort, pseudonym
from client.imaging.decoding import decode
from client.imaging.frames import Frame, ImageFile, InMemory
from client.imaging.outcome import Tally
from client.imaging.pixels import fit
from client.imaging.sequence import Sequence
from client.imaging.sources import DicomFolder
from client.prediction.cases import Case, Refusal, cases
from common import wire
from common.handover import Handed
from common.models import build_model
from common.plan import Input
from tests.helpers.dicom import image, save
from tests.helpers.plans import small_plan

PATIENTS, VISITS = ("ANN", "BOB"), 4


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Two patients of four visits each, with other grey values at each."""
    folder = tmp_path_factory.mktemp("whole")
    for p, patient in enumerate(PATIENTS):
        for visit in range(VISITS):
            pixels = (np.arange(1024).reshape(32, 32) * (p + 2) * (visit + 1) % 4000).astype(np.uint16)
            date = f"202401{visit + 1:02d}"
            ds = image(pixels, PatientID=patient, AcquisitionDate=date, StudyDate=date, ViewPosition="PA")
            save(ds, folder / f"{patient}-{visit}.dcm")
    (folder / "labels.csv").write_text("patient,pneumonia\nANN,0\nBOB,1\n")
    return folder


def break_pixels(path):
    """A header that can be read, and pixels that cannot: the file ends in the middle of them."""
    data = path.read_bytes()
    path.write_bytes(data[:-900])


def both_ways(folder, out, contract):
    """Patient -> frames, by an ingest and by a prediction, with what each counted."""
    key = b"key"
    collection = DicomFolder(folder).read(contract, ("pneumonia",))
    build_cohort(out, collection, contract, ("pneumonia",), key, "stamp")
    cohort, names = Cohort.open(out), {pseudonym(p, key): p for p in PATIENTS}
    trained = {names[str(cohort.patients[i])]: cohort.frames(i) for i in range(len(cohort))}
    plan, tally = small_plan(input=contract), Tally()
    handed = Handed(folder, plan, wire.get_weights(build_model(plan)), "", float("nan"), {})
    predicted = {c.patient: c.pixels for c in cases(handed, folder, tally) if isinstance(c, Case)}
    return trained, predicted, cohort.tally, tally


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    broken=st.sets(st.tuples(st.sampled_from(PATIENTS), st.integers(0, VISITS - 1))),
    least=st.integers(1, 4),
    most=st.integers(1, 4),
)
def test_a_cohort_and_a_prediction_see_the_same_frames(whole, tmp_path, broken, least, most):
    folder = tmp_path / "broken"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, folder)
    for patient, visit in broken:
        break_pixels(folder / f"{patient}-{visit}.dcm")
    contract = Input(size=16, min_frames=min(least, most), max_frames=most)
    trained, predicted, ingest, prediction = both_ways(folder, tmp_path / "cohort", contract)
    assert trained.keys() == predicted.keys()
    for patient, frames in trained.items():
        np.testing.assert_array_equal(frames, predicted[patient])
        assert len(frames) >= contract.min_frames
    assert ingest.as_dict() == prediction.as_dict()
    # By hand: of the latest `most` visits those that are not broken, if they are enough.
    for patient in PATIENTS:
        left = [v for v in range(VISITS)[-most:] if (patient, v) not in broken]
        assert len(trained.get(patient, ())) == (len(left) if len(left) >= contract.min_frames else 0)


def test_two_broken_files_of_three_are_not_a_sequence_of_one(whole, tmp_path):
    folder = tmp_path / "three"
    shutil.copytree(whole, folder)
    (folder / "ANN-0.dcm").unlink()
    for visit in (1, 2):
        break_pixels(folder / f"ANN-{visit}.dcm")
    contract = Input(size=16, min_frames=3, max_frames=4)
    trained, predicted, ingest, prediction = both_ways(folder, tmp_path / "cohort", contract)
    assert trained.keys() == predicted.keys() == {"BOB"}
    assert ingest.as_dict() == prediction.as_dict() == {"broken": 2, "too_short": 1}


def test_an_image_of_several_sequences_is_read_once(tmp_path, monkeypatch):
    reads = []
    monkeypatch.setattr(InMemory, "read", lambda self: reads.append(self) or self.values)
    shared, last = (InMemory(np.full((16, 16), v, np.float32)) for v in (0.25, 0.5))
    labels = np.zeros(1, np.float32)
    early = Sequence("p", (Frame(0.0, shared),), labels)
    late = Sequence("p", (Frame(0.0, shared), Frame(3.0, last)), labels)
    contract, tally = Input(size=16), Tally()
    (one,) = decode([[early, late]], contract, tally)
    assert reads == [shared, last]
    assert one.usable(late, contract, tally) == late.frames
    np.testing.assert_array_equal(one.pixels[last], fit(last.values, 16, 8))


def test_what_is_known_is_not_read(tmp_path):
    gone, pixels = ImageFile(tmp_path / "gone.png"), np.full((16, 16), 7, np.uint8)
    sequence = Sequence("p", (Frame(0.0, gone),), np.zeros(1, np.float32))
    contract, tally = Input(size=16), Tally()
    (one,) = decode([[sequence]], contract, tally, {gone: pixels})
    assert one.pixels[gone] is pixels
    (one,) = decode([[sequence]], contract, tally)
    assert one.usable(sequence, contract, tally) == ()
    assert tally.as_dict() == {"broken": 1, "no_frames": 1}


def test_a_visit_without_an_image_of_its_own_is_not_judged_by_its_past(whole, tmp_path):
    folder = tmp_path / "visits"
    shutil.copytree(whole, folder)
    rows = ["study,pneumonia"]
    for path in sorted(folder.glob("*.dcm")):
        ds = dcmread(path)
        ds.StudyInstanceUID = f"1.2.{ord(path.name[0])}.{path.stem[-1]}"
        ds.save_as(path)
        rows.append(f"{ds.StudyInstanceUID},{path.stem[-1] in '13':d}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    break_pixels(folder / f"BOB-{VISITS - 1}.dcm")
    contract = Input(size=16, label="visit", max_frames=3)
    build_cohort(tmp_path / "c", DicomFolder(folder).read(contract, ("pneumonia",)), contract,
                 ("pneumonia",), b"key", "stamp")  # fmt: skip
    cohort = Cohort.open(tmp_path / "c")
    assert cohort.contract == contract
    ann, bob = (np.flatnonzero(cohort.patients == pseudonym(p, b"key")) for p in PATIENTS)
    assert cohort.lengths[ann].tolist() == [1, 2, 3, 3]
    assert cohort.labels[ann, 0].tolist() == [0, 1, 0, 1]
    assert cohort.lengths[bob].tolist() == [1, 2, 3]
    assert cohort.n_images == len(list(cohort.images())) == 7  # each once
    assert cohort.tally.as_dict() == {"broken": 1, "no_frames": 1}
    handed = Handed(
        folder, small_plan(input=contract), wire.get_weights(build_model(small_plan())), "", float("nan"), {}
    )
    newest, refused = cases(handed, folder, Tally())
    np.testing.assert_array_equal(newest.pixels, cohort.frames(int(ann[-1])))
    assert refused == Refusal("BOB", "no usable image of the newest visit, which the model speaks of")
