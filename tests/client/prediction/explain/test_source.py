"""Headers that a PACS holds and that may not be written today."""

import subprocess
from dataclasses import replace

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import XRayRadiofluoroscopicImageStorage

from client.imaging.dicom import read_headers
from client.prediction.explain.dicom import short, write_dicom
from client.prediction.explain.source import sources
from common.errors import DataError
from tests.helpers.known_model import explained
from tests.helpers.tools import require_tool


@pytest.fixture(scope="module")
def known():
    return explained()


@pytest.fixture
def files(images):
    """Of one patient, in order."""
    found = [(ds, path) for path in images.glob("*.dcm") if (ds := dcmread(path))]
    patient = min(str(ds.PatientID) for ds, _ in found)
    mine = [(ds, path) for ds, path in found if ds.PatientID == patient]
    return sorted(mine, key=lambda one: (one[0].StudyDate, str(one[0].get("AcquisitionDateTime", ""))))


def explained_from(known, files, **change):
    """A known explanation, as if it were of these files with some headers changed."""
    for ds, path in files:
        for keyword, value in change.items():
            ds[keyword] = type(ds[keyword])(ds[keyword].tag, ds[keyword].VR, value, validation_mode=0)
        ds.save_as(path)
    headers = tuple(read_headers(path, "xray").images[0] for _, path in files)
    n = len(headers)
    when = known.when
    case = replace(
        known.case, headers=headers, pixels=np.resize(known.case.pixels, (n, *known.case.pixels.shape[1:])),
        positions=np.arange(float(n)),
    )  # fmt: skip
    when = replace(when, attention=when.attention[:n], running=when.running[:n], influence=when.influence[:n])
    return replace(known, case=case, when=when)


ODD = [
    {"StudyTime": "10:11:12"}, {"StudyDate": "2020-01-01"}, {"StudyDate": "1950.01.02"}, {"PatientSex": "W"},
    {"PatientName": ["A^B", "C^D"]}, {"PatientBirthDate": "nobody knows"}, {"StudyTime": "25"},
]  # fmt: skip


@pytest.mark.parametrize("odd", ODD, ids=str)
def test_an_odd_header_is_written_as_it_may_be_or_empty(known, files, tmp_path, odd):
    tool = require_tool("dciodvfy")
    shown = explained_from(known, files[: len(known.case.pixels)], **odd)
    for path in write_dicom(shown, tmp_path):
        told = subprocess.run([tool, str(path)], capture_output=True, text=True)
        errors = [line for line in (told.stdout + told.stderr).splitlines() if line.startswith("Error")]
        assert errors == [], path.name
    (report, *_) = write_dicom(shown, tmp_path)
    written = dcmread(report)
    expected = {"10:11:12": "101112.000000", "2020-01-01": "20200101", "1950.01.02": "19500102"}
    for keyword, value in odd.items():
        wanted = "A^B" if isinstance(value, list) else expected.get(value, "")
        assert str(written[keyword].value or "") == wanted


def test_images_without_what_an_object_must_name_are_refused_in_a_line(known, files, tmp_path):
    shown = explained_from(known, files[: len(known.case.pixels)])
    for header in shown.case.headers:
        ds = dcmread(header.path)
        del ds.StudyInstanceUID
        ds.save_as(header.path)
    with pytest.raises(DataError, match="do not let a result be filed with them"):
        write_dicom(shown, tmp_path)


def test_an_image_of_a_file_with_several_is_named_by_its_number(known, files, tmp_path):
    n = len(known.case.pixels)
    ds, path = files[0]
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = XRayRadiofluoroscopicImageStorage
    ds.Modality, ds.NumberOfFrames, ds.FrameTime, ds.PixelData = "RF", n, 500, ds.PixelData * n
    ds.save_as(path)
    case = replace(
        known.case, headers=tuple(read_headers(path, "xray").images), positions=np.arange(float(n))
    )
    several = replace(known, case=case)
    assert [source.frames for source in sources(several)] == [[k + 1] for k in range(n)]
    report, *captures = map(dcmread, write_dicom(several, tmp_path))
    shown = [c.SourceImageSequence[0].ReferencedFrameNumber for c in captures]
    assert shown == [*range(1, n + 1), n]
    for k in range(n):
        assert f"Referenced Frame Number             IS: '{k + 1}'" in str(report)


def test_two_findings_have_two_codes():
    names = ["ground_glass_opacity_left", "ground_glass_opacity_right", "pneumonia", "a" * 16, "a" * 17]
    codes = [short(name) for name in names]
    assert len(set(codes)) == len(names)
    assert max(map(len, codes)) <= 16
