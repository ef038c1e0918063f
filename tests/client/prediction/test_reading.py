"""A study of the PACS is read and the result filed: what is judged, where it lies, and what is not read."""

import json
from dataclasses import replace
from io import BytesIO

import pytest
import torch
from pydicom import dcmread

from client.forgetting import forget_patient
from client.imaging.outcome import Tally
from client.pacs.archive import Refused, Series, Unreachable
from client.pacs.arrivals import Arrivals
from client.prediction import reading
from client.prediction.model import load_own
from client.prediction.on_call import OnCall
from client.prediction.reading import End, NotWholeError, Reader, log
from client.settings import SiteFolder
from common.errors import ConfigError, DataError, LinkError, RunError
from common.handover import read_model
from common.logs import log_to


class Shelf:
    """A PACS in memory: files, and what was stored."""

    def __init__(self, folder):
        self.files = [dcmread(path) for path in sorted(folder.glob("*.dcm"))]
        self.stored, self.refuses, self.hides = [], False, set()
        self.on_store = lambda: None

    def studies(self, key, value):
        keyword = {"patient": "PatientID", "study": "StudyInstanceUID", "accession": "AccessionNumber"}[key]
        for ds in self.files:
            if str(ds.get(keyword, "")) == value:
                yield str(ds.StudyInstanceUID), str(ds.PatientID)

    def series(self, study, modalities):
        found = {}
        for ds in self.files:
            if ds.StudyInstanceUID == study and ds.Modality in modalities:
                found.setdefault(str(ds.SeriesInstanceUID), set()).add(str(ds.SOPInstanceUID))
        return [Series(study, uid, frozenset(images)) for uid, images in sorted(found.items())]

    def fetch(self, series, missing, store):
        for ds in self.files:
            if ds.SOPInstanceUID in missing - self.hides:
                file = BytesIO()
                ds.save_as(file, enforce_file_format=True)
                store(str(ds.SOPInstanceUID), file.getvalue())

    def store(self, objects):
        if self.refuses:
            raise Refused("status 0xA700")
        self.stored += objects
        self.on_store()


@pytest.fixture
def shelf(images):
    return Shelf(images)


@pytest.fixture
def reader(tmp_path, exported, shelf):
    site = SiteFolder(tmp_path / "site")
    site.path.mkdir(mode=0o700)
    site.settings_file.write_text(json.dumps({"server": "localhost:443"}))
    site.secret.write_bytes(b"k" * 64)
    site.secret.chmod(0o600)
    handed, device = read_model(exported), torch.device("cpu")
    return Reader(site, shelf, 10_000.0, handed, load_own(handed, device), device)


@pytest.fixture
def place(reader):
    return reader.site.arrived / "one"


def visits(shelf, patient=0):
    """A patient with their files, first to last."""
    name = sorted({ds.PatientID for ds in shelf.files})[patient]
    files = [ds for ds in shelf.files if ds.PatientID == name]
    return name, sorted(files, key=lambda ds: (ds.AcquisitionDate, ds.AcquisitionTime))


@pytest.mark.slow
def test_the_latest_study_is_read_with_all_before_it_and_the_result_lies_beside_it(reader, shelf, place):
    _, files = visits(shelf)
    latest = files[-1].StudyInstanceUID
    reading = reader.read(str(latest), place)
    assert reading.end is End.FILED
    assert dict(reading.probabilities).keys() == {"pneumonia"}
    assert {ds.StudyInstanceUID for ds in shelf.stored} == {latest}
    (report,) = [ds for ds in shelf.stored if ds.Modality == "SR"]
    named = {
        item.ReferencedSOPInstanceUID
        for study in [
            *report.CurrentRequestedProcedureEvidenceSequence,
            *report.PertinentOtherEvidenceSequence,
        ]
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    assert named == {ds.SOPInstanceUID for ds in files}
    n = len(shelf.stored)
    assert reader.read(str(latest), place).end is End.ALREADY
    assert len(shelf.stored) == n


@pytest.mark.slow
def test_the_log_names_a_study_by_a_hash_that_only_this_site_can_make(reader, shelf, place):
    name, files = visits(shelf)
    latest = str(files[-1].StudyInstanceUID)
    arrivals = Arrivals(reader.site.arrived)
    with log_to(reader.site.logs / "read.log", log):
        OnCall(reader, arrivals, lambda line: None).read_now([latest])
    written = (reader.site.logs / "read.log").read_text()
    assert f"{reader.tag(latest)}: read and filed" in written
    assert latest not in written
    assert name not in written
    reader.site.secret.write_bytes(b"another key" * 8)
    assert reader.tag(latest) not in written


def test_an_older_study_gets_no_result(reader, shelf, place):
    _, files = visits(shelf)
    assert reader.read(str(files[0].StudyInstanceUID), place).end is End.OLDER
    assert shelf.stored == []


@pytest.mark.slow
def test_a_new_image_is_a_new_result(reader, shelf, place):
    _, files = visits(shelf)
    latest = str(files[-1].StudyInstanceUID)
    first = files[0]
    shelf.files.remove(first)
    assert reader.read(latest, place).end is End.FILED
    n = len(shelf.stored)
    shelf.files.append(first)
    assert reader.read(latest, place).end is End.FILED
    assert len(shelf.stored) > n


@pytest.mark.slow
def test_an_image_that_comes_while_the_others_are_judged_is_judged_too(reader, shelf, place, monkeypatch):
    _, files = visits(shelf)
    late = files[-2]
    shelf.files.remove(late)
    explain, n_images = Reader._explain, []

    def watched(self, case, *others):
        n_images.append(len(case.headers))
        if late not in shelf.files:
            shelf.files.append(late)
        return explain(self, case, *others)

    monkeypatch.setattr(Reader, "_explain", watched)
    assert reader.read(str(files[-1].StudyInstanceUID), place).end is End.FILED
    assert n_images == [len(files) - 1, len(files)]
    assert len([ds for ds in shelf.stored if ds.Modality == "SR"]) == 1


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"Modality": "MR"}, "has no image of it that is xray"),
        ({"ViewPosition": "LL"}, "left out"),
        ({"PatientID": "ELSE"}, "name 2 patients"),
    ],
)
def test_what_the_model_does_not_take_is_said(reader, shelf, place, change, why):
    name, files = visits(shelf)
    latest = files[-1].StudyInstanceUID
    some = files if "Modality" in change else files[-1:]
    for ds in some:
        for keyword, value in change.items():
            setattr(ds, keyword, value)
    if "PatientID" in change:
        files[-2].StudyInstanceUID = latest
    reading = reader.read(str(latest), place)
    assert reading.end is End.NOT_READ
    assert why in reading.why
    assert name not in reading.why
    assert shelf.stored == []


def test_who_is_forgotten_is_not_read_and_nothing_of_them_stays(reader, shelf, place):
    name, files = visits(shelf)
    latest = str(files[-1].StudyInstanceUID)
    reader.read(latest, place)
    (place / "study").write_text(latest)
    assert list(place.rglob("*.dcm"))
    forget_patient(reader.site, name)
    assert not place.exists()
    shelf.stored.clear()
    assert reader.read(latest, place).end is End.FORGOTTEN
    assert not list(place.rglob("*.dcm"))
    assert shelf.stored == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("failure", "kind", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), LinkError, "no memory is free"),
        (MemoryError(), LinkError, "no memory is free"),
        (
            torch.AcceleratorError("CUDA error: unspecified\nlaunch failure"),
            RunError,
            r"\(CUDA error: unspecified\)",
        ),
    ],
)
def test_a_machine_that_fails_costs_no_study(reader, shelf, place, monkeypatch, failure, kind, said):
    def fails(*_):
        raise failure

    _, files = visits(shelf)
    latest = str(files[-1].StudyInstanceUID)
    with monkeypatch.context() as broken:
        broken.setattr(reading, "explain_case", fails)
        with pytest.raises(kind, match=said):
            reader.read(latest, place)
    assert shelf.stored == []
    assert reader.read(latest, place).end is End.FILED


@pytest.mark.slow
def test_what_does_not_come_whole_is_not_read(reader, shelf, place):
    _, files = visits(shelf)
    shelf.hides = {files[0].SOPInstanceUID}
    with pytest.raises(NotWholeError, match="1 of the patient's studies did not come whole"):
        reader.read(str(files[-1].StudyInstanceUID), place)
    shelf.hides = set()
    assert reader.read(str(files[-1].StudyInstanceUID), place).end is End.FILED


@pytest.mark.slow
def test_a_pacs_that_takes_nothing_is_said_and_the_result_is_filed_later(reader, shelf, place):
    _, files = visits(shelf)
    shelf.refuses = True
    with pytest.raises(LinkError, match="does not take the result"):
        reader.read(str(files[-1].StudyInstanceUID), place)
    shelf.refuses = False
    assert reader.read(str(files[-1].StudyInstanceUID), place).end is End.FILED


@pytest.mark.slow
def test_a_list_of_what_was_filed_that_is_lost_costs_a_second_result_and_names_nobody(reader, shelf, place):
    name, files = visits(shelf)
    latest = str(files[-1].StudyInstanceUID)
    reader.read(latest, place)
    told = reader.site.filed.read_text()
    assert latest not in told
    assert name not in told
    reader.site.filed.write_text("rubbish")
    assert reader.read(latest, place).end is End.FILED


def test_an_accession_number_names_its_studies(reader, shelf, monkeypatch):
    _, files = visits(shelf)
    files[0].AccessionNumber = "A-17"
    assert reader.studies_of("A-17") == [str(files[0].StudyInstanceUID)]
    assert reader.studies_of("A-18") == []
    for pattern in ("", " ", "*", "A-1?", "A-17\\A-18"):
        with pytest.raises(DataError, match="without \\* or \\?"):
            reader.studies_of(pattern)

    def away(*_):
        raise Unreachable("no association")

    monkeypatch.setattr(shelf, "studies", away)
    with pytest.raises(LinkError, match="does not say which study"):
        reader.studies_of("A-17")


@pytest.mark.slow
def test_a_patient_who_is_corrected_between_two_tries_gets_the_result_and_nobody_else(reader, shelf, place):
    name, files = visits(shelf)
    latest = str(files[-1].StudyInstanceUID)
    shelf.refuses = True
    with pytest.raises(LinkError, match="does not take the result"):
        reader.read(latest, place)
    shelf.refuses = False
    for ds in files:
        ds.PatientID = "RIGHT"
    assert reader.read(latest, place).end is End.FILED
    assert {str(ds.PatientID) for ds in shelf.stored} == {"RIGHT"}
    assert name != "RIGHT"


@pytest.mark.slow
def test_an_image_that_was_removed_between_two_tries_is_not_judged(reader, shelf, place):
    _, files = visits(shelf)
    shelf.refuses = True
    with pytest.raises(LinkError):
        reader.read(str(files[-1].StudyInstanceUID), place)
    shelf.refuses = False
    shelf.files.remove(files[0])
    assert reader.read(str(files[-1].StudyInstanceUID), place).end is End.FILED
    assert str(files[0].SOPInstanceUID) not in str(shelf.stored)


@pytest.mark.slow
def test_who_is_corrected_while_it_is_judged_gets_the_result_under_the_right_name(
    reader, shelf, place, monkeypatch
):
    _, files = visits(shelf)
    explain = Reader._explain

    def corrected(self, *some):
        for ds in files:
            ds.PatientID = "RIGHT"
        return explain(self, *some)

    monkeypatch.setattr(Reader, "_explain", corrected)
    latest = str(files[-1].StudyInstanceUID)
    assert reader.read(latest, place).end is End.FILED
    assert {str(ds.PatientID) for ds in shelf.stored} == {"RIGHT"}


@pytest.mark.slow
def test_a_result_that_is_made_again_is_the_same_objects(reader, shelf, place):
    """A PACS that takes the first of them and goes away gets no second report at the next try."""
    _, files = visits(shelf)
    latest = str(files[-1].StudyInstanceUID)
    reader.read(latest, place)
    first = [ds.SOPInstanceUID for ds in shelf.stored]
    shelf.stored.clear()
    reader.site.filed.unlink()
    reader.read(latest, place)
    assert [ds.SOPInstanceUID for ds in shelf.stored] == first
    assert len(set(first)) == len(first)
    shelf.stored.clear()
    other = replace(reader, handed=replace(reader.handed, sha256="another model's"))
    assert other.read(latest, place).end is End.FILED
    assert not set(first) & {ds.SOPInstanceUID for ds in shelf.stored}


def broken_pixels(ds):
    ds.PixelData = ds.PixelData[: len(ds.PixelData) // 4]


def test_a_study_before_the_latest_is_not_the_latest_because_that_one_is_broken(reader, shelf, place):
    _, files = visits(shelf)
    last = str(files[-1].StudyInstanceUID)
    for ds in files:
        if ds.StudyInstanceUID == last:
            broken_pixels(ds)
    before = [ds.StudyInstanceUID for ds in files if ds.StudyInstanceUID != last][-1]
    assert reader.read(last, place).end is End.NOT_READ
    assert reader.read(str(before), place).end is End.OLDER
    assert shelf.stored == []


def test_what_is_left_out_stands_in_the_line_and_in_what_is_filed(reader, shelf, place):
    _, files = visits(shelf)
    broken_pixels(files[0])
    reading = reader.read(str(files[-1].StudyInstanceUID), place)
    assert (reading.end, reading.why) == (End.FILED, "left out: 1 broken")
    (report,) = (ds for ds in shelf.stored if ds.Modality == "SR")
    assert "of the images: left out: 1 broken" in report.to_json()
    assert all("left out: 1 broken" in ds.ImageComments for ds in shelf.stored if ds is not report)


def test_a_signature_that_counts_no_longer_ends_the_reader(reader, shelf, place):
    (reader.handed.folder / "signature.json").write_text("{}")
    _, files = visits(shelf)
    with pytest.raises(ConfigError):
        reader.read(str(files[-1].StudyInstanceUID), place)
    assert shelf.stored == []


def test_a_pacs_that_says_another_patient_than_its_images_gets_no_result(reader, shelf, place, monkeypatch):
    _, files = visits(shelf)
    latest = str(files[-1].StudyInstanceUID)
    studies, judged = shelf.studies, []

    def otherwise(key, value):  # after it was judged, by the study's own number
        for study, patient in studies(key, value):
            yield study, "OTHER" if judged and key == "study" else patient

    monkeypatch.setattr(shelf, "studies", otherwise)
    reader._fetch(latest, place)
    case = reader._case(latest, place, Tally())
    judged.append(True)
    with pytest.raises(LinkError, match="names another patient"):
        reader._require_patient(latest, case)
