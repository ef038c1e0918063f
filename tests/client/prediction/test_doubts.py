"""Labels that a model doubts: wrong ones come first, and what is not known is not doubted."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import logit

from client.imaging.cohort import Cohort, build_cohort
from client.imaging.outcome import Tally
from client.imaging.quality import describe, render_page
from client.imaging.sequence import Collection
from client.prediction import doubts as doubting
from client.prediction.doubts import MOST, doubts
from common.calibration import calibrate
from common.errors import DataError
from common.handover import read_model
from tests.helpers.browser import FINE, problems
from tests.helpers.cohorts import make_sequences
from tests.helpers.handed import PLAN

CPU = torch.device("cpu")


UNKNOWN = 5


@pytest.fixture
def cohort(tmp_path):
    """Whether one patient has it is not known."""
    sequences = [one for one in make_sequences(60, 3) if len(one.frames) > 1]
    sequences[UNKNOWN] = replace(sequences[UNKNOWN], labels=np.full(1, np.nan, np.float32))
    build_cohort(
        tmp_path / "cohort", Collection(sequences, Tally()), PLAN.input, PLAN.findings, b"key", "stamp"
    )
    return tmp_path / "cohort"


@pytest.fixture
def sure(monkeypatch, cohort):
    """A model that is right of all but three, of whom it says the opposite, of the first most surely."""
    truth = Cohort.open(cohort).labels[:, 0]
    p = np.where(truth == 1, 0.9, 0.1)
    for wrong, how_sure in ((7, 0.99), (11, 0.8), (30, 0.6)):
        p[wrong] = 1 - how_sure if truth[wrong] == 1 else how_sure
    monkeypatch.setattr(doubting, "predict_logits", lambda *_: logit(p)[:, None])
    return p


def test_wrong_labels_come_first_with_the_probability_that_predict_tells(exported, cohort, sure):
    handed = read_model(exported)
    found = doubts(handed, cohort, None, CPU)
    assert [doubt.sequence for doubt in found] == [7, 11, 30]
    told = calibrate(sure[[7, 11, 30]].astype(np.float32), handed.temperature)
    assert [doubt.probability for doubt in found] == pytest.approx(told.tolist(), rel=1e-5)
    assert {doubt.part for doubt in found} == {"unknown"}  # in the folder of no hospital that took part


def test_an_unknown_label_is_not_doubted_and_there_are_not_too_many(exported, cohort, sure):
    sure[:] = 1 - sure
    found = doubts(read_model(exported), cohort, None, CPU)
    assert np.isnan(Cohort.open(cohort).labels[:, 0]).sum() == 1
    wrong = {doubt.sequence for doubt in found}
    assert len(found) == MOST
    where = int(np.flatnonzero(np.isnan(Cohort.open(cohort).labels[:, 0]))[0])
    assert not wrong & {7, 11, 30, where}


def test_another_finding_is_refused(exported, cohort):
    handed = read_model(exported)
    other = replace(handed, plan=handed.plan.model_copy(update={"findings": ("effusion",)}))
    with pytest.raises(DataError, match="knows effusion; the labels tell of pneumonia"):
        doubts(other, cohort, None, CPU)


@pytest.mark.slow
def test_the_page_shows_them_and_can_be_read(exported, cohort, sure):
    opened, found = Cohort.open(cohort), doubts(read_model(exported), cohort, None, CPU)
    page = render_page(describe(opened, PLAN), opened, "small", doubts=found)
    section = page[page.index("Labels that the model doubts most") :].split("</section>")[0]
    places = [section.index(f"sequence {i + 1}:") for i in (7, 11, 30)]
    assert places == sorted(places)
    assert section.count("<figure>") == 3
    assert "The model: pneumonia 0." in section
    assert str(opened.patients[7]) not in page
    assert problems(page) == FINE
    none = render_page(describe(opened, PLAN), opened, "small", doubts=[])
    assert "finds every known label likelier than not" in none
    assert "Labels that the model doubts" not in render_page(describe(opened, PLAN), opened, "small")


@pytest.mark.slow
def test_ingest_shows_what_a_model_doubts(here, exported, images, tmp_path):
    site = tmp_path / "site"
    site.mkdir(mode=0o700)
    (site / "hospital.yaml").write_text(
        json.dumps({"server": "localhost:443", "device": "cpu", "data": {"dicom": str(images)}})
    )
    (site / "pseudonym.key").write_bytes(b"k" * 64)
    (site / "pseudonym.key").chmod(0o600)
    plan = shutil.copy(exported / "plan.yaml", tmp_path / "plan.yaml")
    done = here("client", "ingest", str(plan), "--model", str(exported), "--dir", str(site))
    assert done.returncode == 0, done.stderr
    (page,) = (site / "cohorts").glob("*.html")
    assert "Labels that the model doubts most" in page.read_text()
