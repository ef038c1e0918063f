"""What speaks of a patient is found whatever stands around it, and nobody else's is."""

import json

import numpy as np
import pytest

from client.traces import keys_of, names_of, scrub
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
