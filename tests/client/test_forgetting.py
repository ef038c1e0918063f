"""Forgotten means forgotten: nothing of the patient is left below the site's folder, and nothing brings them back."""

import json
import threading
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from client.forgetting import Tombstones, forget_patient
from client.imaging.cohort import Cohort, build_cohort, pseudonym
from client.imaging.outcome import Reason
from client.ingest import ingest_site
from client.pacs.archive import Series
from client.pacs.inbox import Inbox, LeftOut
from client.pacs.pull import Outcome, Pull, Wanted
from client.settings import SiteFolder
from common.errors import ConfigError, DataError, RunError
from tests.helpers.denied import deny_listing
from tests.helpers.dicom import image, save
from tests.helpers.plans import small_plan


def xray(patient, uid, day=1):
    ds = image(
        np.full((20, 20), 100 + day, np.uint16),
        PatientID=patient,
        SOPInstanceUID=uid,
        AcquisitionDate=f"2020010{day}",
    )
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.AccessionNumber = f"{uid}.1", f"{uid}.2", f"ACC{patient}"
    return ds


def file_of(ds):
    file = BytesIO()
    ds.save_as(file, enforce_file_format=True)
    return file.getvalue()


@pytest.fixture
def site(tmp_path):
    """Three patients whose files came from a PACS; a label table that is the hospital's, outside."""
    folder = SiteFolder(tmp_path / "site")
    (folder.images / "study").mkdir(parents=True, mode=0o700)
    folder.secret.write_bytes(b"k" * 64)
    folder.secret.chmod(0o600)
    for p in range(3):
        for day in (1, 2):
            save(xray(f"SECRET{p}", f"1.{p}.{day}", day), folder.images / "study" / f"{p}-{day}.dcm")
    labels = tmp_path / "labels.csv"
    labels.write_text("patient,pneumonia\nSECRET0,1\nSECRET1,0\nSECRET2,1\n")
    settings = {
        "server": "localhost:443",
        "data": {"labels": str(labels), "pacs": {"url": "http://127.0.0.1:9"}},
    }
    folder.settings_file.write_text(json.dumps(settings))
    return folder


def holding(folder, *names):
    """Files below a folder that hold any of these bytes, by content or by name."""
    return [
        path
        for path in folder.rglob("*")
        if path.is_file()
        and any(n in path.read_bytes() or n.decode() in str(path.relative_to(folder)) for n in names)
    ]


def test_nothing_of_the_patient_is_left_below_the_site_s_folder(site):
    ingest_site(site, small_plan())
    arriving = site.images / ".arriving-1234"
    arriving.mkdir()
    save(xray("SECRET1", "1.1.9"), arriving / "piece.dcm")
    building = next(site.cohorts.glob("*/cohort.json")).parent.with_name(".x.building")
    building.mkdir()
    (building / "frames.bin").write_bytes(b"SECRET1")
    site.logs.mkdir(exist_ok=True)
    (site.logs / "pull.log").write_text('{"message": "whole: 1.1.1.1"}\n{"message": "whole: 1.0.1.1"}\n')
    (site.logs / "ingest.log.1").write_text("unlabelled: images/SECRET1/3.dcm\nkept\n")
    names = [b"SECRET1", b"1.1.1.1", b"1.1.9"]
    assert holding(site.path, *names)
    gone = forget_patient(site, "SECRET1")
    assert (gone.sequences, gone.frames, len(gone.files)) == (1, 2, 3)
    assert holding(site.path, *names) == []
    assert (site.logs / "pull.log").read_text() == '{"message": "whole: 1.0.1.1"}\n'
    assert (site.logs / "ingest.log.1").read_text() == "kept\n"
    assert gone.lines >= 2
    assert not building.exists()
    assert len(holding(site.path, b"SECRET0")) == 2  # the others' files


def test_a_tombstone_is_kept_by_keyed_hash_and_holds_whatever_the_padding(site):
    forget_patient(site, "SECRET1")
    stones = Tombstones.read(site)
    assert stones.holds("SECRET1")
    assert stones.holds("SECRET1 ")
    assert not stones.holds("SECRET2")
    assert "SECRET1" not in site.forgotten.read_text()
    site.forgotten.write_text("{")
    with pytest.raises(ConfigError, match="who asked to be left out is not known"):
        Tombstones.read(site)


class Shelf:
    """A PACS that says whose a study is, or not."""

    def __init__(self, says=True):
        self.says, self.fetched = says, []

    def studies(self, key, value):
        return [(f"study-{value}", value if self.says else "")]

    def series(self, study, modalities):
        return [Series(study, f"{study}.1", frozenset({f"{study}.1.1"}))]

    def fetch(self, series, missing, store):
        self.fetched.append(series.study)
        for uid in missing:
            store(uid, file_of(xray(series.study.removeprefix("study-"), uid)))


@pytest.mark.parametrize("says", [True, False])
def test_the_next_pull_does_not_bring_the_patient_back(site, says):
    forget_patient(site, "SECRET1")
    shelf = Shelf(says)
    inbox = Inbox(site.images, Tombstones.read(site).holds)
    pull = Pull(shelf, inbox, 10_000.0)
    list(pull.run(Wanted("patient", ["SECRET1", "SECRET2"], ("CR",), history=False)))
    assert pull.outcomes == {Outcome.FORGOTTEN: 1, Outcome.WHOLE: 1, Outcome.WITHDRAWN: 2}
    assert ("study-SECRET1" in shelf.fetched) is (not says)
    assert holding(site.path, b"SECRET1") == []


def test_a_push_does_not_either_and_overwrites_nobody_else(site):
    forget_patient(site, "SECRET1")
    inbox = Inbox(site.images, Tombstones.read(site).holds)
    with pytest.raises(LeftOut):
        inbox.put_pushed("1.9", "1.9.1", file_of(xray("SECRET1", "1.9.1")))
    inbox.put_pushed("1.9", "1.9.2", file_of(xray("SECRET2", "1.9.2")))
    with pytest.raises(FileExistsError, match="another patient"):
        inbox.put_pushed("1.9", "1.9.2", file_of(xray("SECRET0", "1.9.2")))
    inbox.put_pushed("1.9", "1.9.2", file_of(xray("SECRET2", "1.9.2", day=3)))  # corrected by the PACS
    assert holding(site.path, b"SECRET1") == []


@pytest.mark.parametrize("patient", ["", "  ", "\t"])
def test_nobody_is_not_forgotten(site, patient):
    """`forget "$ID"` of a variable that is not set would keep out everybody without an ID, for ever."""
    with pytest.raises(DataError, match="empty Patient ID"):
        forget_patient(site, patient)
    assert not site.forgotten.exists()


@pytest.mark.parametrize(
    "table",
    [
        "patient,pneumonia\nSECRET0,1\nSECRET1,0\nSECRET2,1\n",
        "study,pneumonia\n" + "".join(f"1.{p}.{d}.1,{p % 2}\n" for p in range(3) for d in (1, 2)),
        "accession,pneumonia\nACCSECRET0,1\nACCSECRET1,0\nACCSECRET2,1\n",
        "patient,accession,pneumonia\nSECRET0,ACCSECRET0,1\nSECRET1,ACCSECRET1,0\nSECRET2,ACCSECRET2,1\n",
    ],
    ids=["patient", "study", "accession", "both"],
)
def test_labels_of_who_is_forgotten_stop_no_ingest(site, table):
    labels = Path(json.loads(site.settings_file.read_text())["data"]["labels"])
    labels.write_text(table)
    forget_patient(site, "SECRET1")
    cohort = Cohort.open(ingest_site(site, small_plan()))
    assert len(set(cohort.patients.tolist())) == 2
    assert cohort.tally.counts[Reason.FORGOTTEN] == (2 if "study" in table else 1)
    labels.write_text(
        table + table.splitlines()[1].replace("SECRET0", "SECRET7").replace("1.0.", "1.7.") + "\n"
    )
    with pytest.raises(DataError, match="without any image"):
        ingest_site(site, small_plan())


def test_a_number_that_was_a_patient_s_is_nobody_else_s_id(site):
    forget_patient(site, "SECRET1")
    told = Tombstones.read(site)
    assert told.is_about("", "accession", "ACCSECRET1")
    assert not told.is_about("", "study", "ACCSECRET1")
    assert not told.holds("ACCSECRET1")
    assert "ACCSECRET1" not in site.forgotten.read_text()


def test_what_other_commands_made_in_the_folder_is_named(site):
    made = {
        "predictions/predictions.csv": "patient,p\nSECRET1,0.4\n",
        "why/case-001/page.html": "<p>Patient SECRET1.</p>",
        "why/case-002/page.html": "<p>Patient SECRET10.</p>",
    }
    for name, text in made.items():
        (site.path / name).parent.mkdir(parents=True, exist_ok=True)
        (site.path / name).write_text(text)
    save(xray("SECRET1", "1.1.7"), site.path / "why/case-001/heat-01.dcm")
    save(xray("SECRET2", "1.2.7"), site.path / "why/case-002/heat-01.dcm")
    gone = forget_patient(site, "SECRET1")
    assert {str(path.relative_to(site.path)) for path in gone.named} == {
        "predictions/predictions.csv", "why/case-001/page.html", "why/case-001/heat-01.dcm",
    }  # fmt: skip
    assert gone.unread == []


def test_an_image_that_nobody_can_read_is_said_to_be_there(site):
    broken = site.images / "of nobody.dcm"
    broken.symlink_to(site.path / "not there")
    assert forget_patient(site, "SECRET1").unread == [broken]


def test_images_that_cannot_be_looked_through_keep_nothing_of_the_site_s_own(site, tmp_path, monkeypatch):
    settings = json.loads(site.settings_file.read_text())
    settings["data"] = {"labels": settings["data"]["labels"], "dicom": str(tmp_path / "gone")}
    site.settings_file.write_text(json.dumps(settings))
    with pytest.raises(DataError, match="what this site keeps of the patient is removed"):
        forget_patient(site, "SECRET1")
    assert holding(site.images, b"SECRET1") == []


def test_a_patient_who_is_forgotten_while_images_are_read_is_in_no_cohort(site, monkeypatch):
    """The ingest had read who is forgotten when it began; and another ingest would write into its folder."""
    before, waiting = Cohort.open(ingest_site(site, small_plan())), threading.Event()
    hidden = pseudonym("SECRET1", site.secret.read_bytes())
    assert hidden in before.patients
    forgetting = threading.Thread(target=forget_patient, args=(site, "SECRET1", waiting.set))
    seen = []

    def reading(cohort, *args, **kwargs):
        forgetting.start()
        assert waiting.wait(30)
        seen.append(hidden in Cohort.open(cohort).patients)  # the agent trains on it meanwhile
        with pytest.raises(RunError, match="another ingest, or a forget, is going on"):
            ingest_site(site, small_plan())
        return build_cohort(cohort, *args, **kwargs)

    monkeypatch.setattr("client.ingest.build_cohort", reading)
    labels = site.path.parent / "labels.csv"
    labels.write_text(labels.read_text().replace("SECRET2,1", "SECRET2,0"))
    cohort = ingest_site(site, small_plan())
    assert seen == [False]
    assert hidden not in Cohort.open(cohort).patients
    forgetting.join()
    monkeypatch.undo()
    assert hidden not in Cohort.open(ingest_site(site, small_plan())).patients


@pytest.mark.parametrize("place", ["cohorts", "logs"])
def test_a_folder_that_cannot_be_listed_is_not_one_without_the_patient(site, place, monkeypatch):
    deny_listing(monkeypatch, getattr(site, place))
    with pytest.raises(PermissionError):
        forget_patient(site, "somebody")
