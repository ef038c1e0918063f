"""What a model is asked about: patients of a folder or of a cohort, each a case or a refusal."""

import numpy as np
import pytest
import torch
from pydicom import dcmread

from client.imaging.cohort import Cohort, build_cohort, is_cohort
from client.imaging.outcome import Tally
from client.imaging.sources import DicomFolder
from client.prediction.cases import Case, Refusal, cases, open_cohort
from common.errors import DataError
from common.handover import read_model
from tests.helpers.cohorts import make_cohort
from tests.helpers.handed import PLAN


@pytest.fixture
def handed(exported):
    return read_model(exported)


def test_dicom_files_are_a_case_a_patient_with_headers_and_positions_from_the_first(handed, images):
    found = list(cases(handed, images, Tally()))
    by_patient = {}
    for path in images.glob("*.dcm"):
        by_patient.setdefault(dcmread(path).PatientID, []).append(path)
    assert {case.patient: len(case.headers) for case in found} == {p: len(f) for p, f in by_patient.items()}
    for case in found:
        assert case.pixels.shape == (len(case.headers), 32, 32)
        assert case.positions[0] == 0
        assert (np.diff(case.positions) >= 0).all()
        assert all(header.patient == case.patient for header in case.headers)


def test_a_patient_with_too_few_images_is_refused_and_the_others_are_not(handed, images, tmp_path):
    ds = dcmread(sorted(images.glob("*.dcm"))[0])
    ds.PatientID, ds.SOPInstanceUID = "ALONE", "1.2.3"
    ds.save_as(images / "alone.dcm")
    found = list(cases(handed, images, Tally()))
    refused = [case for case in found if isinstance(case, Refusal)]
    assert refused == [Refusal("ALONE", "1 usable image(s), the model takes at least 2")]
    assert len(found) == 7


def test_a_cohort_s_cases_are_its_sequences(handed, images, tmp_path):
    read = DicomFolder(images).read(PLAN.input, PLAN.findings)
    build_cohort(tmp_path / "c", read, PLAN.input, PLAN.findings, b"key", "s")
    cohort = Cohort.open(tmp_path / "c")
    assert is_cohort(tmp_path / "c")
    assert not is_cohort(images)
    for i, case in enumerate(cases(handed, tmp_path / "c", Tally())):
        assert case.patient == cohort.patients[i]
        assert np.array_equal(case.pixels, cohort.frames(i))
        np.testing.assert_allclose(np.diff(case.positions, prepend=0), cohort.gaps(i), atol=1e-4)
        assert case.headers == ()


def test_grey_values_are_over_the_whole_range():
    for dtype in (np.uint8, np.uint16):
        top = np.iinfo(dtype).max
        pixels = np.array([[[0, top]]], dtype)
        seen = Case("p", pixels, np.zeros(1), ()).seen(torch.device("cpu"))
        assert seen.frames.tolist() == [[[0.0, 1.0]]]


def test_other_cohorts_and_no_folder_are_refused(handed, tmp_path):
    make_cohort(tmp_path / "c", 6)
    with pytest.raises(DataError, match="ingested for another input contract"):
        open_cohort(handed, tmp_path / "c")
    with pytest.raises(DataError, match="no such file or folder; expected DICOM files, images with index"):
        list(cases(handed, tmp_path / "absent", Tally()))
