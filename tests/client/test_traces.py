"""What speaks of a patient is found whatever stands around it, and nobody else's is."""

import json

import numpy as np
import pyarrow as pa
import pytest
from markupsafe import escape
from pyarrow import parquet

from client.settings import SiteFolder
from client.traces import keys_of, made_of, names_of, scrub
from common.text import printable
from tests.helpers.dicom import image, save


def test_a_short_id_takes_no_other_patient_s_lines(tmp_path):
    log = tmp_path / "pull.log"
    log.write_text(
        '{"time": "2026-11-29T12:02:32", "message": "of P22: x"}\n{"message": "of 2: y"}\n{"message": "/a/2.dcm"}\n'
    )
    assert scrub(tmp_path, {"2"}) == 2
    assert "P22" in log.read_text()


HIDING = ["a\nSECRET7", "\tSECRET7 ", "éSECRET7", 'the "SECRET7"', "SECRET7", "/x/SECRET7.dcm", "\x1bSECRET7"]


@pytest.mark.parametrize("shown", [printable, str], ids=["as our logs are", "as JSON alone"])
@pytest.mark.parametrize("message", HIDING)
def test_no_escape_hides_a_patient_in_a_log(tmp_path, message, shown):
    """The last letter of one may stand before the name."""
    log = tmp_path / "ingest.log"
    line = json.dumps({"time": "2026-11-29T12:00:00", "message": shown(message)})
    log.write_text(f"{line}\nnot JSON: SECRET7\nof another\n")
    assert scrub(tmp_path, {"SECRET7"}) == 2
    assert log.read_text() == "of another\n"


def test_an_id_of_other_letters_is_found_in_a_log(tmp_path):
    (tmp_path / "pull.log").write_text(json.dumps({"message": "of MÜLLER: x"}) + "\n")
    assert scrub(tmp_path, {"MÜLLER"}) == 1


def test_a_file_tells_its_keys_and_names_and_rubbish_none(tmp_path):
    ds = image(np.zeros((4, 4), np.uint16), PatientID="P1", StudyInstanceUID="1.2", AccessionNumber="")
    path = save(ds, tmp_path / "a.dcm")
    (tmp_path / "b.dcm").write_bytes(b"rubbish")
    assert keys_of(path) == [("study", "1.2")]
    assert keys_of(tmp_path / "b.dcm") == []
    assert names_of([path, tmp_path / "b.dcm"]) == {
        str(path), str(tmp_path / "b.dcm"), "P1", "1.2", str(ds.SOPInstanceUID),
    }  # fmt: skip


@pytest.fixture
def site(tmp_path):
    folder = SiteFolder(tmp_path / "site")
    folder.path.mkdir()
    folder.settings_file.write_text(json.dumps({"server": "localhost:443"}))
    return folder


@pytest.mark.parametrize("patient", ["10017", "MÜ-1", 'Ä/B"1', "A&B1", "O'N<1>"])
def test_every_file_that_tells_of_a_patient_is_named_whatever_it_is_written_in(site, patient):
    written = {
        "a.csv": f"patient\n{patient}\n".encode(),
        "b.csv": f"patient\n{patient}\n".encode("utf-16"),
        "c.csv": f"patient\n{patient}\n".encode("latin-1"),
        "d.json": json.dumps({"patient": patient}).encode(),
        "e.html": f"<p>Patient {escape(patient)}.</p>".encode(),
        "note": f"of {patient}".encode(),
    }
    for name, data in written.items():
        (site.path / name).write_bytes(data)
        (site.path / f"other-{name}").write_bytes(b"of X" + patient.encode() + b"9")
    parquet.write_table(pa.table({"patient": [patient], "pneumonia": [1]}), site.path / "f.parquet")
    parquet.write_table(pa.table({"patient": ["X" + patient]}), site.path / "other.parquet")
    ds = image(np.zeros((4, 4), np.uint16), PatientID=patient, SpecificCharacterSet="ISO_IR 192")
    save(ds, site.path / "IM1")
    (site.path / "weights").write_bytes(b"\0" * 9 + patient.encode())
    named, unread = made_of(site, patient)
    assert {path.name for path in named} == {*written, "f.parquet", "IM1"}
    assert unread == []


def test_the_pictures_beside_an_explanation_are_named_with_it(site):
    for k in (1, 2):
        folder = site.path / f"why/case-{k}"
        folder.mkdir(parents=True)
        (folder / "explanation.json").write_text(json.dumps({"patient": f"P{k}"}))
        (folder / "montage.png").write_bytes(b"\x89PNG\0")
    named, _ = made_of(site, "P1")
    assert [str(path.relative_to(site.path)) for path in named] == [
        "why/case-1/explanation.json", "why/case-1/montage.png",
    ]  # fmt: skip


def test_what_cannot_be_looked_into_is_said(site):
    (site.path / "broken.parquet").write_bytes(b"PAR1 and no more")
    named, unread = made_of(site, "P1")
    assert named == []
    assert {path.name for path in unread} == {"broken.parquet"}
