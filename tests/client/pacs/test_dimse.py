"""C-FIND and C-GET against a PACS in this process that sends images only as they lie there."""

import logging
import os
import time
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from pydicom import Dataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForProcessing,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt, service_class
from pynetdicom.association import Association
from pynetdicom.dsutils import encode
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind as Find
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelGet as Get

from client.pacs import dimse
from client.pacs.archive import Refused, Unreachable
from client.pacs.dimse import DimseArchive, Peer
from tests.helpers.dicom import image
from tests.helpers.mutations import broken

logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
FUZZ = int(os.environ.get("PNEUMOFED_FUZZ", "60"))
"""Broken answers of a PACS; 2,000 before a release."""
LEVELS = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}


@dataclass
class Pacs:
    """What it holds, and how it behaves."""

    objects: list[Dataset] = field(default_factory=list)
    announced: int | None = None
    n_series: int | None = None
    broken: bool = False
    repeats: int = 1
    padding: int = 0

    def find(self, event):
        asked = event.identifier
        key = LEVELS[asked.QueryRetrieveLevel]
        for uid in sorted({str(d.get(key)) for d in self.objects}) * self.repeats:
            answer = Dataset()
            answer.QueryRetrieveLevel = asked.QueryRetrieveLevel
            if not self.broken:
                setattr(answer, key, uid)
                answer.PatientID, answer.Modality = "P1 ", "CR"
                if self.padding:
                    answer.add_new(0x00091001, "OB", b"\0" * self.padding)
                if self.n_series:
                    answer.NumberOfStudyRelatedSeries = self.n_series
                if self.announced:
                    answer.NumberOfSeriesRelatedInstances = self.announced
            yield 0xFF00, answer

    def get(self, event):
        yield len(self.objects)
        yield from ((0xFF00, ds) for ds in self.objects)


@pytest.fixture
def pacs():
    house, ae = Pacs(), AE("PACS")
    ae.add_supported_context(Find)
    ae.add_supported_context(Get)
    for context in AllStoragePresentationContexts:
        ae.add_supported_context(context.abstract_syntax, ALL_TRANSFER_SYNTAXES, scu_role=True, scp_role=True)
    server = ae.start_server(
        ("127.0.0.1", 0),
        block=False,
        evt_handlers=[(evt.EVT_C_FIND, lambda event: house.find(event)), (evt.EVT_C_GET, house.get)],
    )
    house.peer = Peer("127.0.0.1", server.server_address[1], "PACS", "US")
    yield house
    server.shutdown()


def film(uid, syntax=ExplicitVRLittleEndian, kind=ComputedRadiographyImageStorage, study="1.2"):
    ds = image(np.tile(np.arange(64, dtype=np.uint16), (64, 1)), SOPInstanceUID=uid, SOPClassUID=kind)
    ds.StudyInstanceUID, ds.SeriesInstanceUID = study, "1.3"
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = kind, uid
    if syntax != ExplicitVRLittleEndian:
        ds.compress(syntax, generate_instance_uid=False)
    return ds


def image_answer():
    ds = Dataset()
    ds.QueryRetrieveLevel, ds.Modality, ds.PatientID = "STUDY", "CR", "P1"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID = "1.2", "1.3", "1.3.1"
    ds.NumberOfStudyRelatedSeries = ds.NumberOfSeriesRelatedInstances = 1
    return ds


@pytest.mark.slow
def test_compressed_and_raw_images_come_as_they_lie_there(pacs):
    pacs.objects = [
        film("1.3.1"), film("1.3.2", JPEG2000Lossless), film("1.3.3", RLELossless),
        film("1.3.4", kind=DigitalXRayImageStorageForProcessing),
    ]  # fmt: skip
    stored = {}
    with DimseArchive(pacs.peer) as archive:
        assert list(archive.studies("patient", "P1")) == [("1.2", "P1")]
        (series,) = archive.series("1.2", ("CR",))
        assert series.images == {f"1.3.{k}" for k in (1, 2, 3, 4)}
        archive.fetch(series, series.images, stored.__setitem__)
    assert set(stored) == series.images


def test_an_image_of_another_study_is_not_taken(pacs):
    pacs.objects = [film("1.3.1"), film("1.3.2", study="9.9")]
    stored = {}
    with DimseArchive(pacs.peer) as archive:
        (series,) = archive.series("1.2", ("CR",))
        archive.fetch(series, series.images, stored.__setitem__)
    assert set(stored) == {"1.3.1"}


def test_a_series_says_how_long_it_is(pacs):
    pacs.objects, pacs.announced = [film("1.3.1")], 2
    with DimseArchive(pacs.peer) as archive, pytest.raises(Refused, match="has 2 images, and lists 1"):
        archive.series("1.2", ("CR",))[0].require_whole()


def test_a_list_of_series_shorter_than_the_study_says_is_not_believed(pacs):
    pacs.objects, pacs.n_series = [film("1.3.1")], 2
    with DimseArchive(pacs.peer) as archive:
        assert list(archive.studies("patient", "P1")) == [("1.2", "P1")]
        with pytest.raises(Refused, match="says that a study has 2 series, and lists 1"):
            archive.series("1.2", ("CR",))


def test_a_huge_image_is_cut_off_while_it_arrives_and_the_next_one_comes(pacs, monkeypatch):
    monkeypatch.setattr(dimse, "MAX_IMAGE_BYTES", 2**21)
    (huge, small), stored = (film("1.3.1"), film("1.3.2")), {}
    huge.add_new(0x00091001, "OB", b"\0" * 2**26)
    with DimseArchive(pacs.peer) as archive:
        pacs.objects = [huge]
        (series,) = archive.series("1.2", ("CR",))
        with pytest.raises(Refused, match="more than 2 MiB of one image"):
            archive.fetch(series, series.images, stored.__setitem__)
        pacs.objects = [small]
        archive.fetch(series, series.images, stored.__setitem__)
    assert set(stored) == {"1.3.2"}


def test_answers_without_what_was_asked_for_are_none(pacs):
    pacs.objects, pacs.broken = [film("1.3.1")], True
    with DimseArchive(pacs.peer) as archive:
        assert list(archive.studies("patient", "P1")) == []
        assert archive.series("1.2", ("CR",)) == []


def test_a_huge_answer_is_cut_off_while_it_arrives_and_the_next_question_is_answered(pacs, monkeypatch):
    """One data set without end would fill the memory before anybody could look at it."""
    monkeypatch.setattr(dimse, "MAX_FIND_BYTES", 2**21)
    pacs.objects, pacs.padding = [film("1.3.1")], 2**26
    with DimseArchive(pacs.peer) as archive:
        with pytest.raises(Refused, match="more than 2 MiB of answers"):
            list(archive.studies("patient", "P1"))
        pacs.padding = 0
        assert list(archive.studies("patient", "P1")) == [("1.2", "P1")]


@pytest.mark.slow
def test_endless_answers_are_cut_off(pacs, monkeypatch):
    monkeypatch.setattr(dimse, "MAX_ANSWERS", 10)
    pacs.objects, pacs.repeats = [film("1.3.1")], 1000
    with DimseArchive(pacs.peer) as archive, pytest.raises(Refused, match="more than 10 answers"):
        list(archive.studies("patient", "P1"))


ANSWER = encode(image_answer(), is_implicit_vr=True, is_little_endian=True)


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_any_data_set_is_an_answer_or_refused_and_the_next_question_is_answered(pacs):
    pacs.objects = [film("1.3.1")]
    with DimseArchive(pacs.peer) as archive:

        @settings(max_examples=FUZZ, deadline=None, suppress_health_check=list(HealthCheck))
        @given(broken(ANSWER))
        def holds(raw):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(service_class, "encode", lambda *_, **__: raw)
                try:
                    for study, patient in archive.studies("patient", "P1"):
                        assert isinstance(study, str) and study  # noqa: PT018
                        assert isinstance(patient, str)
                except (Refused, Unreachable):
                    pass
            assert list(archive.studies("patient", "P1")) == [("1.2", "P1")]

        holds()


@pytest.fixture
def shelf():
    """A PACS that keeps what it is given; `takes` are the kinds, `then` is done after each."""
    kept, ae = [], AE("PACS")

    def serve(takes, then=lambda event: None):
        for kind in takes:
            ae.add_supported_context(kind)

        def keep(event):
            kept.append(event.dataset.SOPInstanceUID)
            then(event)
            return 0

        server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, keep)])
        return DimseArchive(Peer("127.0.0.1", server.server_address[1], "PACS", "US"))

    yield serve, kept
    ae.shutdown()


TWO_KINDS = (ComputedRadiographyImageStorage, DigitalXRayImageStorageForProcessing)


def test_what_we_make_is_given_whole_or_not_at_all(shelf):
    serve, kept = shelf
    objects = [film(f"1.9.{k}", kind=kind) for k, kind in enumerate(TWO_KINDS)]
    with pytest.raises(Refused, match="it takes no Digital X-Ray Image Storage - For Processing"):
        serve(TWO_KINDS[:1]).store(objects)
    assert kept == []
    serve(TWO_KINDS).store(objects)
    assert kept == ["1.9.0", "1.9.1"]


def test_a_pacs_that_goes_away_between_two_objects_is_away(shelf, monkeypatch):
    serve, kept = shelf
    archive = serve(TWO_KINDS, lambda event: event.assoc.abort())
    send = Association.send_c_store

    def slowly(association, ds):
        while kept and association.is_established:
            time.sleep(0.01)
        return send(association, ds)

    monkeypatch.setattr(Association, "send_c_store", slowly)
    with pytest.raises(Unreachable):
        archive.store([film(f"1.9.{k}", kind=kind) for k, kind in enumerate(TWO_KINDS)])
    assert kept == ["1.9.0"]


@pytest.mark.parametrize("value", ["Ж12", "Müller", "日本"])
def test_a_number_that_is_not_ascii_asks_for_itself_alone(pacs, value):
    """Without a character set its letters go out as ?, which any letter fits."""
    asked = []
    find = pacs.find

    def noted(event):
        asked.append(str(event.identifier.get("AccessionNumber", "")))
        yield from find(event)

    pacs.find = noted
    with DimseArchive(pacs.peer) as archive:
        list(archive.studies("accession", value))
    assert asked == [value]


def test_a_pacs_that_does_not_look_for_a_number_gives_no_other_s_studies(pacs):
    def all_it_has(event):
        for number, study in (("A1", "1.2"), ("A2", "1.3"), ("a1", "1.4")):
            answer = Dataset()
            answer.QueryRetrieveLevel, answer.StudyInstanceUID, answer.PatientID = "STUDY", study, "P1"
            answer.AccessionNumber = number
            yield 0xFF00, answer

    pacs.find = all_it_has
    with DimseArchive(pacs.peer) as archive:
        assert list(archive.studies("accession", "A1")) == [("1.2", "P1")]
        assert list(archive.studies("study", "1.3")) == [("1.3", "P1")]


def test_what_is_there_from_the_try_before_is_taken_and_the_rest_is_given(shelf, monkeypatch):
    serve, kept = shelf
    archive = serve(TWO_KINDS)
    objects = [film(f"1.9.{k}", kind=kind) for k, kind in enumerate(TWO_KINDS)]
    archive.store(objects[:1])
    send = Association.send_c_store

    def duplicates(association, ds):
        if ds.SOPInstanceUID in kept:
            status = Dataset()
            status.Status = 0x0111
            return status
        return send(association, ds)

    monkeypatch.setattr(Association, "send_c_store", duplicates)
    archive.store(objects)
    assert kept == ["1.9.0", "1.9.1"]
