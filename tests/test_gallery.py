"""The gallery: its pictures are there, and small objects answer what a first-time reader should be able to answer."""

import importlib.util
import re
import sys
from pathlib import Path

import cv2
import pytest
import torch
from pydicom import dcmread

from client.imaging.cohort import Cohort
from client.imaging.outcome import Tally
from client.imaging.quality import describe
from client.imaging.quality import render_page as cohort_page
from client.prediction.cases import cases
from client.prediction.explain.case import explain_case
from client.prediction.explain.dicom import write_dicom
from client.prediction.explain.page import render_page as explanation_page
from client.prediction.model import load_own
from common.handover import read_model
from common.report.card import render_card
from common.report.page import render_report
from common.results.card import read_card
from server.export import export_run
from simulation.phantom import write_phantom
from tests.helpers.cohorts import make_cohort
from tests.helpers.handed import PLAN
from tests.helpers.plans import small_plan
from tests.helpers.results import run_result
from tests.helpers.runs import deployed_run
from tests.helpers.tools import require_tool

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def gallery():
    sys.path.insert(0, str(DOCS))
    spec = importlib.util.spec_from_file_location("gallery", DOCS / "gallery.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.path.remove(str(DOCS))
    return module


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gallery")
    return export_run(deployed_run(folder / "run", PLAN), folder / "model", None)


@pytest.fixture(scope="module")
def explained(tmp_path_factory, model):
    (images,) = write_phantom(tmp_path_factory.mktemp("images") / "phantom", 1, 6, 1)
    handed = read_model(model)
    (case, *_) = cases(handed, images, Tally())
    return explain_case(handed, load_own(handed, torch.device("cpu")), case, "pneumonia", torch.device("cpu"))


def test_every_exhibit_is_in_the_page_and_its_pictures_are_there(gallery):
    page = (DOCS / "gallery.md").read_text()
    for exhibit in gallery.EXHIBITS.values():
        assert f"## {exhibit.title}" in page
        assert all(f"- {question}" in page for question, _ in exhibit.questions)
    assert all(f"- {question}" in page for question, _ in (*gallery.CAPTURE, *gallery.REPORT))
    pictures = re.findall(r"\((gallery/[^)]+)\)", page)
    assert len(pictures) == 2 * len(gallery.EXHIBITS) + 3
    for picture in pictures:
        shown = cv2.imread(str(DOCS / picture))
        assert shown is not None, picture
        assert shown.std() > 5


def test_what_is_not_answered_is_named(gallery):
    for exhibit in gallery.EXHIBITS.values():
        assert gallery.unanswered(exhibit.questions, "nothing") == [
            question for question, _ in exhibit.questions
        ]
    assert gallery.text_of("<style>a</style><p>b&nbsp;<b>c</b></p><script>d</script>").split() == ["b", "c"]


def test_a_report_answers(gallery):
    page = render_report(small_plan(), run_result({"north": 0.8}), {"federated": []})
    page = page.replace("join", "adopt")
    assert gallery.unanswered(gallery.EXHIBITS["report"].questions, gallery.text_of(page)) == []


def test_a_card_answers(gallery, model):
    page = render_card(read_card(model), signed=False)
    assert gallery.unanswered(gallery.EXHIBITS["card"].questions, gallery.text_of(page)) == []


def test_a_cohort_s_page_answers(gallery, tmp_path):
    cohort = Cohort.open(make_cohort(tmp_path / "cohort", 30, 3))
    page = cohort_page(describe(cohort, small_plan()), cohort, "small", doubts=[])
    assert gallery.unanswered(gallery.EXHIBITS["cohort"].questions, gallery.text_of(page)) == []


def test_an_explanation_s_page_answers(gallery, explained):
    text = gallery.text_of(explanation_page(explained))
    assert gallery.unanswered(gallery.EXHIBITS["explanation"].questions, text) == []
    assert "R is the patient's right, as the file says" in text


@pytest.mark.slow
def test_what_lies_in_the_pacs_answers_from_its_pixels_and_its_codes(gallery, explained, tmp_path):
    for tool in ("tesseract", "dsrdump"):
        require_tool(tool)
    report, *captures = write_dicom(explained, tmp_path)
    assert gallery.unanswered(gallery.REPORT, gallery.read_report(report)) == []
    assert gallery.unanswered(gallery.CAPTURE, gallery.read_pixels(captures[-1])) == []


@pytest.mark.slow
def test_a_real_viewer_shows_what_we_file(gallery, explained, tmp_path):
    """OHIF before Orthanc, in Chromium: our series by their names, the report, and the map with its legend."""
    for tool in ("npm", "Orthanc", "chromium"):
        require_tool(tool)
    files = write_dicom(explained, tmp_path)
    shown = dcmread(files[-1])
    place = str(shown.StudyInstanceUID), str(shown.SeriesInstanceUID)
    images = [header.path for header in explained.case.headers]
    said = gallery.viewer.show(tmp_path, [*images, *files], place, "Measurements", tmp_path / "ohif.png")
    side = explained.side.capitalize()
    for listed in (
        f"{side} pneumonia: integrated gradients. RESEARCH USE",
        f"{side} pneumonia: occlusion. RESEARCH USE",
    ):
        assert listed in said
    assert "SR\nMeasurements: pneumonia. RESEARCH USE" in said
    middle = cv2.imread(str(tmp_path / "ohif.png"))[60:640, 560:980]
    assert middle.std() > 20, "the viewer shows no picture"
