"""Nothing that identifies a patient is in a cohort; the report says what was left behind; the scan finds what
should not be."""

import json

import numpy as np
import pytest
from pydicom import dcmread

from client.imaging.cohort import Cohort, build_cohort, building
from client.imaging.deidentify import (
    IDENTIFYING,
    PRIVATE,
    identifiers_in,
    removed_from,
    scan,
    without_identifiers,
)
from client.imaging.sources import DicomFolder
from common.errors import DataError
from common.plan import Input
from tests.helpers.dicom import image, save
from tests.helpers.hospital import hospital

PIXELS = np.arange(64, dtype=np.uint16).reshape(8, 8)
PERSON = {
    "PatientID": "MRN-4711", "PatientName": "Mustermann^Erika", "PatientBirthDate": "19501224", "AccessionNumber": "ACC99887",
    "StudyInstanceUID": "1.2.3.4.5", "InstitutionName": "St. Elsewhere", "StudyDescription": "Thorax of Erika", "StudyDate": "20200131",
    "ReferringPhysicianName": "House^Gregory", "Manufacturer": "ACME", "ManufacturerModelName": "one", "ViewPosition": "PA",
}  # fmt: skip


def file_of(folder, name="a.dcm", **more):
    ds = image(PIXELS, **{**PERSON, **more})
    ds.private_block(0x0011, "ACME 1.0", create=True).add_new(1, "LO", "seen by House")
    return save(ds, folder / name)


def test_the_table_is_the_standard_s():
    from pydicom.tag import Tag

    assert len(IDENTIFYING) > 500
    for keyword in (
        "PatientName",
        "PatientID",
        "StudyDate",
        "StudyInstanceUID",
        "InstitutionName",
        "ImageComments",
    ):
        assert Tag(keyword) in IDENTIFYING
    assert Tag("Rows") not in IDENTIFYING
    assert Tag("PixelData") not in IDENTIFYING


def test_what_is_filled_in_is_reported_by_name_and_never_by_value():
    ds = image(PIXELS, **PERSON, PatientAddress="")
    removed = removed_from(ds)
    assert {"PatientName", "PatientID", "StudyDate", "InstitutionName", "StudyDescription"} <= set(removed)
    assert "PatientAddress" not in removed
    assert "Rows" not in removed
    assert PRIVATE not in removed
    ds.private_block(0x0011, "ACME 1.0", create=True).add_new(1, "LO", "seen by House")
    assert removed_from(ds)[-1] == PRIVATE
    assert identifiers_in(ds) >= {"mrn-4711", "mustermann^erika", "19501224", "acc99887", "1.2.3.4.5"}


def test_a_cohort_holds_none_of_it_and_reports_it(tmp_path):
    file_of(tmp_path)
    (tmp_path / "labels.csv").write_text("patient,pneumonia\nMRN-4711,1\n")
    found = DicomFolder(tmp_path).read(Input(size=16), ("pneumonia",))
    assert found.removed["PatientName"] == found.removed[PRIVATE] == 1
    build_cohort(tmp_path / "c", found, Input(size=16), ("pneumonia",), b"key", "s")
    held = b"".join(path.read_bytes() for path in (tmp_path / "c").iterdir()).lower()
    for value in (*PERSON.values(), "Erika", "House", "Mustermann", str(tmp_path)):
        if value not in ("ACME", "one", "PA"):
            assert value.lower().encode() not in held
    assert Cohort.open(tmp_path / "c").removed["InstitutionName"] == 1


@pytest.mark.parametrize("field", ["ManufacturerModelName", "Manufacturer"])
def test_an_identifier_in_the_only_free_text_that_is_kept_is_taken_out(tmp_path, field):
    file_of(tmp_path, **{field: "ward 3, Mustermann^Erika"})
    (tmp_path / "labels.csv").write_text("patient,pneumonia\nMRN-4711,1\n")
    found = DicomFolder(tmp_path).read(Input(size=16), ("pneumonia",))
    assert found.sequences[0].scanner == "unknown"
    assert without_identifiers("ACME one", {"mrn-4711"}) == "ACME one"


def test_the_scan_finds_what_got_in_and_the_cohort_is_not_made(tmp_path, monkeypatch):
    file_of(tmp_path)
    (tmp_path / "labels.csv").write_text("patient,pneumonia\nMRN-4711,1\n")

    def build():
        found = DicomFolder(tmp_path).read(Input(size=16), ("pneumonia",))
        build_cohort(tmp_path / "c", found, Input(size=16), ("pneumonia",), b"key", "s")

    build()
    before = (tmp_path / "c" / "cohort.json").read_text()
    monkeypatch.setattr(building, "pseudonym", lambda patient, key: patient)  # as if somebody had broken it
    with pytest.raises(
        DataError, match=r"would hold an identifier \(sequences\.arrow, column patient\)"
    ) as refused:
        build()
    assert "4711" not in str(refused.value)
    assert (tmp_path / "c" / "cohort.json").read_text() == before
    assert not list(tmp_path.glob(".c*"))
    about = json.loads(before)
    (tmp_path / "c" / "cohort.json").write_text(json.dumps({**about, "note": ["of MRN-4711"]}))
    assert scan(tmp_path / "c", {"mrn-4711"}) == ["cohort.json"]


@pytest.mark.parametrize("name", ["XRAY", "PNEU", "KNOW", "pneumonia"])
def test_a_patient_who_is_called_like_a_word_of_ours_stops_nobody(tmp_path, name):
    folder = hospital(tmp_path / "h")
    for path in folder.glob("*.dcm"):
        ds = dcmread(path)
        ds.PatientName = name
        ds.save_as(path)
    collection = DicomFolder(folder).read(Input(), ("pneumonia",))
    build_cohort(tmp_path / "c", collection, Input(), ("pneumonia",), b"k" * 32, "stamp")
    assert len(Cohort.open(tmp_path / "c")) == 3
