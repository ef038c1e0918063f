"""What lies in the PACS: valid objects in the study that was judged last, with codes that say what the model
says."""

import json
import subprocess

import pytest
from pydicom import dcmread

from common.handover import RESEARCH_USE
from common.protocol import program
from tests.helpers.tools import require_tool


@pytest.fixture
def filed(here, tmp_path, exported, images):
    """A case's folder, its sources by time, and what explanation.json says."""
    words = ["--model", "model", "--input", str(images), "--out", "why", "--most", "1", "--dicom"]
    assert here("client", "explain", *words).returncode == 0
    folder = tmp_path / "why/case-001"
    about = json.loads((folder / "explanation.json").read_text())
    sources = [ds for ds in map(dcmread, images.glob("*.dcm")) if ds.PatientID == about["patient"]]
    return folder, sorted(sources, key=lambda ds: (ds.StudyDate, ds.get("AcquisitionDateTime", ""))), about


def named(sequence):
    return {
        item.ReferencedSOPInstanceUID
        for study in sequence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }


@pytest.mark.slow
def test_the_report_says_what_the_model_says_in_the_study_that_was_judged_last(filed):
    import highdicom as hd

    folder, sources, about = filed
    report = hd.sr.srread(folder / "sr.dcm")
    assert report.PatientID == about["patient"]
    assert report.StudyInstanceUID == sources[-1].StudyInstanceUID
    assert len({ds.StudyInstanceUID for ds in sources}) > 1
    groups = report.content.get_image_measurement_groups()
    assert len(groups) == 1 + len(sources)
    found = {m.name.value: m.value for m in groups[0].get_measurements()}
    assert found["probability"] == pytest.approx(about["probability"], abs=1e-6)
    assert found["threshold"] == pytest.approx(about["threshold"], abs=1e-6)
    (said,) = groups[0].get_qualitative_evaluations()
    assert said.name.meaning == "Pneumonia"
    assert said.value.meaning == ("Present" if about["called"] else "Absent")
    for group, visit in zip(groups[1:], about["visits"], strict=True):
        found = {m.name.value: m.value for m in group.get_measurements()}
        assert found["attention"] == pytest.approx(visit["attention"], abs=1e-6)
        assert found["score-after"] == pytest.approx(visit["score_after"], abs=1e-6)
        assert group.get_qualitative_evaluations() == []  # an image alone has no finding
        assert group.finding_type is None
    others = named(report.get("PertinentOtherEvidenceSequence", []))
    assert named(report.CurrentRequestedProcedureEvidenceSequence) | others == {
        ds.SOPInstanceUID for ds in sources
    }
    procedures = [i for i in report.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "121058"]
    assert [i.ConceptCodeSequence[0].CodeMeaning for i in procedures] == ["XR Chest Views"]


@pytest.mark.slow
def test_each_capture_says_what_it_is_and_what_it_is_painted_on(filed):
    folder, sources, about = filed
    captures = [dcmread(path) for path in sorted(folder.glob("heat-*.dcm"))]
    side = "Supports" if about["called"] else "Opposes"
    assert [ds.SeriesDescription for ds in captures] == [
        *[f"{side} pneumonia: integrated gradients. RESEARCH USE"] * len(sources),
        f"{side} pneumonia: occlusion. RESEARCH USE",
    ]
    painted = [ds.SourceImageSequence[0].ReferencedSOPInstanceUID for ds in captures]
    assert painted == [ds.SOPInstanceUID for ds in [*sources, sources[-1]]]
    assert len({ds.SeriesInstanceUID for ds in captures}) == len({ds.SeriesNumber for ds in captures}) == 2
    for ds in captures:
        assert ds.StudyInstanceUID == sources[-1].StudyInstanceUID
        assert (ds.SoftwareVersions, ds.ContentQualification) == (program(), "RESEARCH")
        assert "BurnedInAnnotation" not in ds  # as in the sources, which do not say
        assert ds.pixel_array.shape[1:] == (512, 3)
        assert RESEARCH_USE in ds.ImageComments
        assert len(ds.SeriesDescription) <= 64


def test_the_objects_are_valid(filed):
    folder, _, _ = filed
    tool = require_tool("dciodvfy")
    for path in [folder / "sr.dcm", *folder.glob("heat-*.dcm")]:
        said = subprocess.run([tool, str(path)], capture_output=True, text=True)
        errors = [line for line in (said.stdout + said.stderr).splitlines() if line.startswith("Error")]
        assert errors == [], path.name
