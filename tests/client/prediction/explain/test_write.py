import json

import cv2
import pytest

from common.handover import RESEARCH_USE
from tests.helpers.command import refused
from tests.helpers.handed import PLAN


@pytest.mark.slow
def test_an_explanation_is_written_as_pictures_numbers_and_dicom(here, tmp_path, exported, images):
    done = here(
        "client",
        "explain",
        "--model",
        "model",
        "--input",
        str(images),
        "--out",
        "why",
        "--most",
        "2",
        "--dicom",
    )
    assert done.returncode == 0, done.stderr
    assert RESEARCH_USE in done.stdout
    folder = tmp_path / "why/case-001"
    about = json.loads((folder / "explanation.json").read_text())
    n = len(about["visits"])
    assert sum(v["attention"] for v in about["visits"]) == pytest.approx(1, abs=1e-4)
    assert set(about["trust"]) >= {"same_with_random_weights", "deletion_area", "insertion_area"}
    montage = cv2.imread(str(folder / "montage.png"))
    assert montage.shape[1] == n * 230 + 6
    assert f"Patient {about['patient']}." in (folder / "page.html").read_text()
    assert RESEARCH_USE in (folder / "page.html").read_text()
    assert len(list(folder.glob("heat-*.dcm"))) == n + 1  # a map of each image, and one of all together
    refused(
        here("client", "explain", "--model", "model", "--input", str(images), "--out", "why"), "is not empty"
    )
    refused(
        here("client", "explain", "--model", "model", "--input", str(images), "--out", "x", "--store"),
        "expected --dir",
    )
    from client.imaging.cohort import build_cohort
    from client.imaging.sources import DicomFolder

    build_cohort(
        tmp_path / "c",
        DicomFolder(images).read(PLAN.input, PLAN.findings),
        PLAN.input,
        PLAN.findings,
        b"key",
        "s",
    )
    refused(
        here("client", "explain", "--model", "model", "--input", "c", "--out", "y", "--dicom"),
        "a cohort holds no identifiers",
    )
    assert (
        here("client", "explain", "--model", "model", "--input", "c", "--out", "z", "--most", "1").returncode
        == 0
    )
