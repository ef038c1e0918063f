import json
import subprocess

import pytest
from pydicom import dcmread

from common.handover import RESEARCH_USE
from tests.helpers.tools import require_tool


def test_the_dicom_objects_are_valid_and_refer_to_what_was_looked_at(here, tmp_path, exported, images):
    import highdicom as hd

    here(
        "client",
        "explain",
        "--model",
        "model",
        "--input",
        str(images),
        "--out",
        "why",
        "--most",
        "1",
        "--dicom",
    )
    folder = tmp_path / "why/case-001"
    patient = json.loads((folder / "explanation.json").read_text())["patient"]
    sources = {ds.SOPInstanceUID: ds for ds in map(dcmread, images.glob("*.dcm")) if ds.PatientID == patient}
    report = hd.sr.srread(folder / "sr.dcm")
    assert report.PatientID == patient
    assert report.StudyInstanceUID in {ds.StudyInstanceUID for ds in sources.values()}
    groups = report.content.get_image_measurement_groups()
    assert len(groups) == 1 + len(sources)
    (probability,) = groups[0].get_measurements()
    about = json.loads((folder / "explanation.json").read_text())
    assert probability.value == pytest.approx(about["probability"], abs=1e-6)
    for group, visit in zip(groups[1:], about["visits"], strict=True):
        found = {m.name.value: m.value for m in group.get_measurements()}
        assert found["attention"] == pytest.approx(visit["attention"], abs=1e-6)
        assert found["score-after"] == pytest.approx(visit["score_after"], abs=1e-6)
    named = {item.ReferencedSOPInstanceUID for study in report.CurrentRequestedProcedureEvidenceSequence
             for series in study.ReferencedSeriesSequence for item in series.ReferencedSOPSequence}  # fmt: skip
    others = {item.ReferencedSOPInstanceUID for study in report.get("PertinentOtherEvidenceSequence", [])
              for series in study.ReferencedSeriesSequence for item in series.ReferencedSOPSequence}  # fmt: skip
    assert named | others == set(sources)
    heat = [dcmread(p) for p in sorted(folder.glob("heat-*.dcm"))]
    assert [ds.InstanceNumber for ds in heat] == list(range(1, len(sources) + 1))
    assert len({ds.SeriesInstanceUID for ds in heat}) == 1
    assert heat[0].pixel_array.shape == (512, 512, 3)
    assert RESEARCH_USE in heat[0].ImageComments
    tool = require_tool("dciodvfy")
    for path in [folder / "sr.dcm", *folder.glob("heat-*.dcm")]:
        said = subprocess.run([tool, str(path)], capture_output=True, text=True)
        errors = [line for line in (said.stdout + said.stderr).splitlines() if line.startswith("Error")]
        assert errors == [], path.name
