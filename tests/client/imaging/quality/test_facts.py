"""What a cohort is said to be like, against what was put into it."""

import json
from dataclasses import asdict, astuple

import numpy as np
import pytest

from client.imaging.cohort import Cohort, build_cohort
from client.imaging.frames import Frame, InMemory
from client.imaging.outcome import Reason, Tally
from client.imaging.quality import describe
from client.imaging.quality.facts import Labels, count_shared_images
from client.imaging.sequence import Collection, Sequence
from client.settings import SiteFolder
from tests.helpers.dicom import image, save
from tests.helpers.plans import small_plan


def cohort_of(folder, sequences, tally=None):
    plan = small_plan()
    build_cohort(folder, Collection(sequences, tally or Tally()), plan.input, plan.findings, b"key", "stamp")
    return Cohort.open(folder)


def sequence(patient, label, *pictures, scanner="ACME one"):
    frames = tuple(Frame(3.0 * k, InMemory(p)) for k, p in enumerate(pictures))
    return Sequence(patient, frames, np.array([label], np.float32), scanner)


@pytest.fixture
def cohort(tmp_path):
    rng = np.random.default_rng(0)
    picture = lambda: rng.random((16, 16), dtype=np.float32)  # noqa: E731
    shared = picture()
    tally = Tally()
    tally.add(Reason.BROKEN, 2)
    tally.add(Reason.UNLABELLED)
    tally.add(Reason.BURNT_IN, 5)
    return cohort_of(tmp_path / "c", [
        sequence("a", 1, picture(), shared), sequence("b", 0, shared, picture(), picture()),
        sequence("c", np.nan, np.zeros((16, 16), np.float32)), sequence("d", 0, picture(), scanner="Other <two>"),
    ], tally)  # fmt: skip


def test_everything_is_counted(cohort):
    about = describe(cohort, small_plan())
    assert (about.patients, about.sequences, about.images) == (4, 4, 7)
    assert about.findings == {"pneumonia": Labels(1, 2, 1, 1 / 3)}
    assert astuple(about.lengths) == (1, 1, 1.5, 2.25, 3)
    assert (about.gaps.min, about.gaps.max, about.gap_unit) == (3.0, 3.0, "days")
    assert about.scanners == {"ACME one": 3, "Other <two>": 1}
    assert sum(about.split.values()) == 4
    assert (about.in_two_splits, about.same_pixels_under_two_patients, about.blank_images) == (0, 1, 1)
    assert [(r.reason, r.count, r.of) for r in about.left_out] == [
        ("broken", 2, "files"),
        ("unlabelled", 1, "patients"),
    ]
    assert [(r.reason, r.count) for r in about.notes] == [("burnt_in", 5)]
    assert not any(str(p) in json.dumps(asdict(about)) for p in cohort.patients)


def test_an_image_twice_of_one_patient_is_not_shared(tmp_path):
    picture = np.random.default_rng(0).random((16, 16), dtype=np.float32)
    assert count_shared_images(cohort_of(tmp_path / "c", [sequence("a", 1, picture, picture)])) == 0


def test_ingest_says_what_the_cohort_is_like(here, tmp_path):
    from common.config import dump_yaml

    data = tmp_path / "dicom"
    data.mkdir()
    rng = np.random.default_rng(0)
    for p in range(3):
        for d in (1, 2):
            pixels = rng.integers(0, 4000, (20, 20)).astype(np.uint16)
            save(image(pixels, PatientID=f"SECRET{p}", AcquisitionDate=f"2020010{d}"), data / f"{p}-{d}.dcm")
    (data / "bad.dcm").write_bytes(b"rubbish")
    (data / "labels.csv").write_text("patient,pneumonia\nSECRET0,1\nSECRET1,0\nSECRET2,\n")
    folder = SiteFolder(tmp_path / "site")
    folder.path.mkdir()
    folder.settings_file.write_text(f"server: localhost:443\ndata:\n  dicom: {data}\n")
    folder.secret.write_bytes(b"k" * 64)
    folder.secret.chmod(0o600)
    (tmp_path / "plan.yaml").write_text(dump_yaml(small_plan()))
    done = here("client", "ingest", "plan.yaml", "--dir", "site", "--json")
    assert done.returncode == 0, done.stderr
    about = json.loads(done.stdout)
    assert (about["sequences"], about["images"], about["gaps"]["median"]) == (2, 4, 1.0)
    assert {r["reason"]: r["count"] for r in about["left_out"]} == {"not_dicom": 1, "unlabelled": 1}
    said = here("client", "ingest", "plan.yaml", "--dir", "site").stdout
    assert "2 sequences, 4 images" in said
    assert "Would you train on this? No: " in said
    (page,) = folder.cohorts.glob("*.html")
    assert "SECRET" not in page.read_text() + said + done.stdout
