"""DICOMweb services as they are: capped pages, refused limits, ignored offsets, padding, and answers that are none."""

import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from urllib.parse import parse_qs, urlparse

import numpy as np
import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread

from client.pacs import dicomweb
from client.pacs.archive import Refused, Series, Unreachable
from client.pacs.dicomweb import DicomwebArchive
from tests.helpers.dicom import image
from tests.helpers.mutations import broken

FUZZ = int(os.environ.get("PNEUMOFED_FUZZ", "150"))
"""Random answers of an archive; 2,000 before a release."""


MULTIPART = b"--part\r\nContent-Type: application/dicom\r\n\r\n%s\r\n--part--\r\n"


class Service:
    """A DICOMweb service on loopback whose manners are set."""

    def __init__(self):
        self.n, self.cap, self.refuse_above, self.ignores_offset, self.padded = 5, None, None, False, False
        self.announced, self.n_series, self.body, self.raw, self.files, self.asked = (
            None,
            None,
            None,
            None,
            {},
            [],
        )
        service = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                url = urlparse(self.path)
                service.asked.append(self.path)
                parts = [p for p in url.path.split("/") if p]
                status, kind, body = service.answer(parts, {k: v[0] for k, v in parse_qs(url.query).items()})
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                body = json.dumps(service.stored).encode()
                self.send_response(202)
                self.send_header("Content-Type", "application/dicom+json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, parts, asked):
        if self.body is not None:
            return 200, "application/dicom+json", self.body
        if len(parts) == 6:
            body = self.raw or MULTIPART % self.files[parts[5]]
            return 200, 'multipart/related; type="application/dicom"; boundary=part', body
        limit, offset = int(asked["limit"]), int(asked.get("offset", 0))
        if self.refuse_above and limit > self.refuse_above:
            return 400, "text/plain", b"limit out of range"
        rows = self.rows(parts, asked)
        rows = rows if self.ignores_offset else rows[offset : offset + min(limit, self.cap or limit)]
        return 200, "application/dicom+json", json.dumps(rows).encode()

    def rows(self, parts, asked):
        def row(**values):
            return {tag[1:]: {"vr": "LO", "Value": [value]} for tag, value in values.items()}

        if len(parts) == 1:
            stored = "P1 " if self.padded else "P1"
            more = {"_00201206": self.n_series} if self.n_series else {}
            return (
                [row(_0020000D="1.2", _00100020=stored, **more)] if asked.get("PatientID") == stored else []
            )
        if len(parts) == 3:
            more = {"_00201209": self.announced} if self.announced else {}
            return [row(_0020000E="1.3", _00080060="CT", **more), row(_0020000E="1.4", _00080060="SR")]
        return [row(_00080018=f"1.3.{k}") for k in range(self.n)]


@pytest.fixture(scope="module")
def servers():
    service = Service()
    yield service
    service.server.shutdown()


@pytest.fixture
def service(servers):
    url, server = None, servers.server
    fresh = {"n": 5, "cap": None, "refuse_above": None, "ignores_offset": False, "padded": False}
    servers.__dict__.update(fresh, announced=None, n_series=None, raw=None, body=None, files={}, asked=[])
    url = f"http://127.0.0.1:{server.server_port}"
    servers.archive = DicomwebArchive(url)
    return servers


@pytest.mark.parametrize(
    "manners",
    [{}, {"cap": 100}, {"cap": 1}, {"refuse_above": 200}, {"refuse_above": 9}, {"ignores_offset": True}],
    ids=str,
)
@pytest.mark.parametrize("n", [0, 1, 7])
def test_a_list_is_whole_whatever_the_pages(service, manners, n):
    service.__dict__.update(manners, n=n * 37 if manners.get("cap") != 1 else n)
    (series,) = service.archive.series("1.2", ("CT",))
    assert series.images == {f"1.3.{k}" for k in range(service.n)}


def test_a_service_that_refuses_every_page_is_refused(service):
    service.refuse_above = 3
    with pytest.raises(Refused, match="HTTP 400"):
        service.archive.series("1.2", ("CT",))


@pytest.mark.parametrize("status", [401, 403, 404, 500])
def test_what_is_forbidden_is_asked_for_once(service, status):
    service.answer = lambda parts, asked: (status, "text/plain", b"no")
    with pytest.raises(Refused, match=f"HTTP {status}"):
        service.archive.series("1.2", ("CT",))
    del service.answer
    assert len(service.asked) == 1


def test_what_a_series_says_of_its_length_is_heard(service):
    service.announced = 250
    (series,) = service.archive.series("1.2", ("CT",))
    with pytest.raises(Refused, match="says that a series has 250 images, and lists 5"):
        series.require_whole()


def test_a_list_of_series_shorter_than_the_study_says_is_not_believed(service):
    service.n_series = 2
    assert list(service.archive.studies("patient", "P1")) == [("1.2", "P1")]
    assert [series.uid for series in service.archive.series("1.2", ("CT",))] == ["1.3"]
    service.n_series = 3
    assert list(service.archive.studies("patient", "P1")) == [("1.2", "P1")]
    with pytest.raises(Refused, match="says that a study has 3 series, and lists 2"):
        service.archive.series("1.2", ("CT",))


def test_a_service_that_does_not_look_for_a_number_gives_no_other_s_studies(service):
    numbers = {"1.2": "A1", "1.3": "A2", "1.4": "a1"}
    service.body = json.dumps(
        [
            {"0020000D": {"vr": "UI", "Value": [study]}, "00080050": {"vr": "SH", "Value": [number]}}
            for study, number in numbers.items()
        ]
    ).encode()
    assert [study for study, _ in service.archive.studies("accession", "A1")] == ["1.2"]
    assert [study for study, _ in service.archive.studies("study", "1.3")] == ["1.3"]


def test_an_id_is_found_with_its_padding_or_without(service):
    assert list(service.archive.studies("patient", "P1")) == [("1.2", "P1")]
    service.padded = True
    assert list(service.archive.studies("patient", "P1")) == []  # even: nothing pads it
    service.rows = lambda parts, asked: (
        [{"0020000D": {"Value": ["1.2 "]}, "00100020": {"Value": ["P12 "]}}]
        if asked["PatientID"] == "P12 "
        else []
    )
    assert list(service.archive.studies("patient", "P12")) == [("1.2", "P12")]
    del service.rows


def file_of(uid, study="1.2"):
    ds = image(np.zeros((4, 4), np.uint16), SOPInstanceUID=uid, StudyInstanceUID=study)
    ds.file_meta.MediaStorageSOPInstanceUID, ds.file_meta.MediaStorageSOPClassUID = uid, ds.SOPClassUID
    file = BytesIO()
    ds.save_as(file, enforce_file_format=True)
    return file.getvalue()


def test_a_bad_image_costs_itself_and_is_named(service, caplog):
    caplog.set_level("INFO", "pneumofed.pull")
    service.files = {
        "1.3.0": file_of("1.3.0"),
        "1.3.1": b"rubbish",
        "1.3.2": file_of("1.3.9"),  # another image than was asked for
        "1.3.3": file_of("1.3.3", study="9.9"),
        "1.3.4": file_of("1.3.4"),
    }
    stored = {}
    service.archive.fetch(
        Series("1.2", "1.3", frozenset(service.files)), frozenset(service.files), stored.__setitem__
    )
    assert set(stored) == {"1.3.0", "1.3.4"}
    for uid in ("1.3.1", "1.3.2", "1.3.3"):
        assert f"not fetched: {uid}: " in caplog.text


def test_an_answer_without_an_end_is_cut_off(service, monkeypatch):
    monkeypatch.setattr(dicomweb, "MAX_LIST_BYTES", 1000)
    service.body = b" " * 100_000
    with pytest.raises(Refused, match="ContentDecodingError"):
        service.archive.series("1.2", ("CT",))


def test_an_image_may_be_longer_than_a_list(service, monkeypatch):
    monkeypatch.setattr(dicomweb, "MAX_LIST_BYTES", 1000)
    service.files = {"1.3.1": b"x" * 100_000}
    url = f"http://127.0.0.1:{service.server.server_address[1]}/studies/1.2/series/1.3/instances/1.3.1"
    whole = dicomweb.BoundedSession().get(
        url, headers={"Accept": 'multipart/related; type="application/dicom"'}
    )
    assert len(whole.content) > 100_000
    with pytest.raises(requests.exceptions.ContentDecodingError, match="without an end"):
        dicomweb.BoundedSession().get(url, headers={"Accept": "application/dicom+json"})


def test_endless_pages_are_cut_off(service, monkeypatch):
    monkeypatch.setattr(dicomweb, "MAX_ANSWERS", 50)
    service.n = 5000
    with pytest.raises(Refused, match="more than 50 answers"):
        service.archive.series("1.2", ("CT",))


rows = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["0020000E", "00080060", "00080018", "Value", "vr"]), inner, max_size=3
        )
    ),
    max_leaves=12,
)


@settings(max_examples=FUZZ, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.one_of(
        rows.map(lambda tree: json.dumps(tree).encode()), st.binary(max_size=50), st.just(b"[" * 100_000)
    )
)
def test_any_answer_is_a_list_or_refused(service, body):
    service.body = body
    try:
        for series in service.archive.series("1.2", ("CT",)):
            assert isinstance(series.uid, str)
    except (Refused, Unreachable):
        pass


def test_any_multipart_answer_is_that_image_or_none(service):
    """What is stored has the UID that was asked for; a broken answer costs itself."""
    whole = MULTIPART % file_of("1.3.1")
    series = Series("1.2", "1.3", frozenset({"1.3.1"}))

    @settings(max_examples=FUZZ, deadline=None, suppress_health_check=list(HealthCheck))
    @given(broken(whole))
    def holds(raw):
        service.raw, stored = raw or b"-", {}
        service.archive.fetch(series, series.images, stored.__setitem__)
        assert stored.keys() <= {"1.3.1"}
        for kept in stored.values():
            assert dcmread(BytesIO(kept)).SOPInstanceUID == "1.3.1"

    holds()
    service.raw, stored = whole, {}
    service.archive.fetch(series, series.images, stored.__setitem__)
    assert set(stored) == {"1.3.1"}


def told_of(**uids):
    """What a service says of objects that were sent to it, by the sequence that they stand in."""
    answer = Dataset()
    for keyword, uid in uids.items():
        one = Dataset()
        one.ReferencedSOPInstanceUID, one.FailureReason = uid, 0xA700
        setattr(answer, keyword, [one])
    return answer.to_json_dict()


@pytest.mark.parametrize(
    ("said", "held", "problem"),
    [
        (told_of(ReferencedSOPSequence="1.3.7"), 0, None),
        ({}, 8, None),  # it says nothing, and has it
        ({}, 7, "what was sent is not there"),
        (told_of(ReferencedSOPSequence="1.3.8"), 7, "what was sent is not there"),
        (told_of(FailedSOPSequence="1.3.7"), 8, "failure 0xA700"),
        (told_of(ReferencedSOPSequence="1.3.7", FailedSOPSequence="1.3.8"), 0, "failure 0xA700"),
    ],
)
def test_only_what_a_service_took_counts_as_given(service, said, held, problem):
    service.stored, service.n = said, held
    ds = dcmread(BytesIO(file_of("1.3.7")))
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2", "1.3"
    if problem is None:
        service.archive.store([ds])
    else:
        with pytest.raises(Refused, match=problem):
            service.archive.store([ds])
