"""The site's side: what is kept, what is forgotten, and where it is said."""

import json

import numpy as np
import pytest

from client.imaging.cohort import Cohort
from client.settings import SiteFolder
from common.config import dump_yaml
from tests.helpers.command import refused
from tests.helpers.dicom import image, save
from tests.helpers.plans import small_plan


@pytest.fixture
def site(tmp_path):
    """Three patients, of whom some files came from a PACS and lie in the site's own folder."""
    folder = SiteFolder(tmp_path / "site")
    (folder.images / "study").mkdir(parents=True, mode=0o700)
    folder.secret.write_bytes(b"k" * 64)
    folder.secret.chmod(0o600)
    for p in range(3):
        for day in (1, 2):
            pixels = np.full((20, 20), 100 * p + day, np.uint16)
            save(
                image(pixels, PatientID=f"SECRET{p}", AcquisitionDate=f"2020010{day}"),
                folder.images / "study" / f"{p}-{day}.dcm",
            )
    (folder.images / "study" / "odd.dcm").write_bytes(b"rubbish")
    (folder.images / "labels.csv").write_text("patient,pneumonia\nSECRET0,1\nSECRET1,0\nSECRET2,1\n")
    settings = {"server": "localhost:443", "data": {"pacs": {"url": "http://127.0.0.1:9"}}}
    folder.settings_file.write_text(json.dumps(settings))
    (tmp_path / "plan.yaml").write_text(dump_yaml(small_plan()))
    return folder


def ingest(here):
    done = here("client", "ingest", "plan.yaml", "--dir", "site")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_paths_stand_in_the_site_s_own_log_and_nowhere_else(site, here):
    said = ingest(here)
    assert "odd.dcm" not in said
    log = site.logs / "ingest.log"
    assert log.stat().st_mode & 0o077 == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert "not_dicom: site/images/study/odd.dcm" in {line["message"] for line in lines}


def test_what_was_left_behind_is_said(site, here):
    assert "PatientID" in ingest(here)
    (page,) = site.cohorts.glob("*.html")
    assert "PatientID" in page.read_text()
    assert "SECRET" not in page.read_text()


@pytest.mark.slow
def test_a_patient_is_forgotten_for_ever(site, here):
    ingest(here)
    done = here("client", "forget", "SECRET1", "--dir", "site")
    assert done.returncode == 0
    assert "Removed 1 sequences with 2 images from 1 cohorts" in done.stdout
    assert "Deleted 2 fetched files" in done.stdout
    assert "cannot forget" in done.stdout
    (cohort,) = (path.parent for path in site.cohorts.glob("*/cohort.json"))
    assert len(Cohort.open(cohort)) == 2
    assert list(site.cohorts.glob("*.html")) == []
    assert sorted(p.name for p in (site.images / "study").glob("*-*.dcm")) == [
        "0-1.dcm",
        "0-2.dcm",
        "2-1.dcm",
        "2-2.dcm",
    ]
    assert "SECRET1" not in site.forgotten.read_text()
    assert site.forgotten.stat().st_mode & 0o077 == 0
    save(
        image(np.full((20, 20), 9, np.uint16), PatientID="SECRET1"), site.images / "study" / "again.dcm"
    )  # the PACS sends it once more
    assert "patient who asked to be left out: 1 patients" in ingest(here)
    assert len(Cohort.open(cohort)) == 2


def test_a_list_of_the_forgotten_that_cannot_be_read_stops_everything(site, here):
    site.forgotten.write_text("{")
    done = here("client", "ingest", "plan.yaml", "--dir", "site")
    assert done.returncode == 2
    assert "who asked to be left out is not known" in done.stderr


def test_files_in_a_folder_that_is_not_ours_are_named_and_kept(site, here, tmp_path):
    (tmp_path / "archive").mkdir()
    site.images.joinpath("study").rename(tmp_path / "archive" / "study")
    site.settings_file.write_text(
        json.dumps({"server": "localhost:443", "data": {"dicom": str(tmp_path / "archive")}})
    )
    refused(
        here("client", "forget", "SECRTE2", "--dir", "site"), "nothing of this patient was found here: is the"
    )
    done = here("client", "forget", "SECRET2", "--dir", "site")
    assert "2 files with this Patient ID are still in the folder that data.dicom names" in done.stdout
    assert len(list((tmp_path / "archive").rglob("2-*.dcm"))) == 2
