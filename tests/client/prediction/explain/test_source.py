"""Headers that a PACS holds and that may not be written today."""

import subprocess
from dataclasses import replace

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.charset import python_encoding
from pydicom.sequence import Sequence
from pydicom.uid import XRayRadiofluoroscopicImageStorage

from client.imaging.dicom import read_headers
from client.prediction.explain.case import short
from client.prediction.explain.dicom import write_dicom
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


def errors_of(paths):
    tool = require_tool("dciodvfy")
    errors = []
    for path in paths:
        told = subprocess.run([tool, str(path)], capture_output=True, text=True, errors="replace")
        lines = (told.stdout + told.stderr).splitlines()
        errors += [(path.name, line) for line in lines if line.startswith("Error")]
    return errors


ODD = [
    {"StudyTime": "10:11:12"}, {"StudyDate": "2020-01-01"}, {"StudyDate": "1950.01.02"}, {"PatientSex": "W"},
    {"PatientName": ["A^B", "C^D"]}, {"PatientBirthDate": "nobody knows"}, {"StudyTime": "25"},
]  # fmt: skip


@pytest.mark.parametrize("odd", ODD, ids=str)
def test_an_odd_header_is_written_as_it_may_be_or_empty(known, files, tmp_path, odd):
    shown = explained_from(known, files[: len(known.case.pixels)], **odd)
    assert errors_of(write_dicom(shown, tmp_path)) == []
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


NAMES = ("Yamada^Taro=山田^太郎", "Hong^Gildong=홍^길동", "ﾔﾏﾀﾞ^ﾀﾛｳ", "Łukasz^Ż", "Müller^Jörg", "Ħal^Ġorġ", "Ķirsis^Ģ",
         "Διονυσιος^Α", "قباني^لنزار", "שרון^דבורה", "Люк^Иван", "Çavuş^Ağa", "นาม^สกุล", "王^小东", "山田")  # fmt: skip
SETS = [
    *([said] for said in python_encoding if said),
    *(["", said] for said in python_encoding if "2022" in said),
    ["ISO 2022 IR 6", "ISO 2022 IR 149"], ["ISO IR 100"], ["nobody's"], [],
]  # fmt: skip


@pytest.mark.parametrize("said", SETS, ids="+".join)
def test_names_in_every_character_set_are_taken_over_as_they_are(known, files, tmp_path, said):
    spoken = [name for name in NAMES if name_files(files[:1], name, said) == name]
    assert spoken
    name_files(files[:1], spoken[0], said)
    (source,) = sources(explained_from(known, files[:1]))
    source.ds.save_as(tmp_path / "utf8.dcm")
    written = dcmread(tmp_path / "utf8.dcm")
    assert written.SpecificCharacterSet == "ISO_IR 192"
    assert written.get_item("PatientName").value.decode().strip() == spoken[0]
    assert written.get_item("StudyDescription").value.decode().strip() == last_word(spoken[0])


def test_a_name_in_several_sets_is_filed(known, files, tmp_path):
    assert name_files(files[:2], NAMES[0], ["", "ISO 2022 IR 87"]) == NAMES[0]
    paths = write_dicom(explained_from(known, files[:2]), tmp_path)
    assert errors_of(paths) == []
    assert {str(dcmread(path).PatientName) for path in paths} == {NAMES[0]}


def last_word(name):
    return name.replace("=", "^").split("^")[-1]


def name_files(files, name, said):
    """What is read back of a name that is written in these sets, which may not have its letters."""
    for ds, path in files:
        ds.SpecificCharacterSet, ds.PatientName, ds.StudyDescription = said, name, last_word(name)
        ds.save_as(path)
    return str(dcmread(files[0][1]).PatientName)


def test_all_objects_of_a_result_say_the_same_of_patient_study_and_clock(known, files, tmp_path):
    issuer = Dataset()
    issuer.UniversalEntityID, issuer.UniversalEntityIDType = "1.2.3", "ISO"
    for ds, _ in files:
        ds.IssuerOfPatientID, ds.IssuerOfPatientIDQualifiersSequence = "HOSPITAL", Sequence([issuer])
        ds.PatientAge, ds.StudyDescription, ds.TimezoneOffsetFromUTC = "044Y", "Thorax", "+0900"
        ds.LossyImageCompression, ds.LossyImageCompressionRatio = "01", 12
        ds.LossyImageCompressionMethod, ds.PatientOrientation = "ISO_10918_1", ["L", "F"]
        ds.IssuerOfAccessionNumberSequence, ds.PatientComments = Sequence([]), "odd" * 9999
    paths = write_dicom(explained_from(known, files[: len(known.case.pixels)]), tmp_path)
    assert errors_of(paths) == []
    report, *captures = map(dcmread, paths)
    for keyword in (
        "PatientID", "IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence", "PatientAge", "StudyDescription",
        "TimezoneOffsetFromUTC", "StudyDate", "StudyTime", "ContentDate",
    ):  # fmt: skip
        assert report[keyword].value, keyword
        assert all(
            ds[keyword].value == report[keyword].value
            for ds in captures
            if keyword in ds or keyword != "ContentDate"
        ), keyword
    for ds in captures:
        assert (ds.LossyImageCompression, ds.LossyImageCompressionMethod) == ("01", "ISO_10918_1")
        assert ds.PatientOrientation == ["L", "F"]


@pytest.mark.parametrize("told", ["AP", "RF", "L", ["L", "X"], ["L", "F", "H"], "", None])
def test_an_orientation_that_is_not_two_directions_is_not_told(known, files, tmp_path, told):
    for ds, _ in files:
        ds.add_new("PatientOrientation", "CS", told)
    paths = write_dicom(explained_from(known, files[: len(known.case.pixels)]), tmp_path)
    assert errors_of(paths[:2]) == []
    assert not dcmread(paths[1]).PatientOrientation


@pytest.mark.parametrize("finding", ["肺炎", "Lungenentzündung"])
def test_a_finding_in_other_letters_is_filed_in_them_and_has_a_code(known, files, tmp_path, finding):
    shown = replace(explained_from(known, files[: len(known.case.pixels)]), finding=finding)
    paths = write_dicom(shown, tmp_path)
    assert errors_of(paths) == []
    report, capture, *_ = map(dcmread, paths)
    assert finding in report.SeriesDescription
    assert finding in capture.SeriesDescription
    assert capture.ImageComments.startswith(finding)
    assert f"SH: '{short(finding)}'" in str(report)
    assert f"LO: '{finding}'" in str(report)


def test_an_odd_name_is_not_told_to_the_terminal(known, files, tmp_path, recwarn):
    write_dicom(explained_from(known, files[:2], PatientName="Ivanov"), tmp_path)
    assert not [warning for warning in recwarn if "Ivanov" in str(warning.message)]
