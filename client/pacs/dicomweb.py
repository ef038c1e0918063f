"""DICOMweb: QIDO-RS to find, WADO-RS to fetch (PS3.18), by dicomweb-client."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from typing import Any, TypeVar

import requests
from dicomweb_client import DICOMwebClient
from pydicom import Dataset

from client.imaging.facts.text import items, text
from client.pacs.archive import (
    DUPLICATE,
    KEYWORDS,
    MAX_ANSWERS,
    Refused,
    Series,
    Store,
    Studies,
    Unreachable,
    is_about,
    whole_number,
)

log = logging.getLogger("pneumofed.pull")
T = TypeVar("T")
STUDY, PATIENT, MODALITY, SERIES, IMAGE = "0020000D", "00100020", "00080060", "0020000E", "00080018"
TAGS = {"patient": PATIENT, "study": STUDY, "accession": "00080050"}
IN_STUDY, IN_SERIES = "00201206", "00201209"  # NumberOfStudyRelatedSeries, NumberOfSeriesRelatedInstances
PAGE, SMALLEST_PAGE = 1000, 8
TOO_LONG = ("HTTP 400", "HTTP 413", "HTTP 422")
"""How a service refuses a page for its length; what it forbids it forbids in any length."""
MAX_BYTES, LONGEST_S = 2 * 2**30, 600.0
"""Of one answer: an enhanced CT is the largest."""
MAX_LIST_BYTES = 64 * 2**20
"""Of a page of answers in JSON, which unfolded is many times as large."""
TIMEOUT_S = 30.0


class DicomwebArchive:
    """A PACS behind DICOMweb.

    Args:
        url: of the service, for example https://pacs.example.org/dicom-web
        token: a bearer token, if the service asks for one.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        session = BoundedSession()
        session.trust_env = False  # the PACS is in the house: not through a proxy of the environment
        if token is not None:
            session.headers["Authorization"] = f"Bearer {token}"
        self._client = DICOMwebClient(url, session=session, timeout=TIMEOUT_S)
        self._client.set_http_retry_params(retry=False)  # pull.py does
        self._limit = PAGE
        self._studies = Studies()

    def studies(self, key: str, value: str) -> Iterator[tuple[str, str]]:
        """A value of odd length lies in files with a space behind it, and some services look for it so."""
        for asked in (value, f"{value} ") if len(value) % 2 else (value,):
            answers = list(
                self._search(
                    STUDY,
                    self._client.search_for_studies,
                    search_filters={KEYWORDS[key]: asked},
                    fields=[IN_STUDY],
                )
            )
            for answer in answers:
                if is_about(_value(answer, TAGS[key]), value):
                    self._studies.note(_value(answer, STUDY), _value(answer, IN_STUDY))
                    yield _value(answer, STUDY), _value(answer, PATIENT)
            if answers:
                return

    def series(self, study: str, modalities: tuple[str, ...]) -> list[Series]:
        fields = [MODALITY, IN_SERIES]
        answers = list(
            self._search(SERIES, self._client.search_for_series, study_instance_uid=study, fields=fields)
        )
        self._studies.require_whole(study, len(answers))
        return sorted(
            (self._series(study, answer) for answer in answers if _value(answer, MODALITY) in modalities),
            key=lambda series: series.uid,
        )

    def _series(self, study: str, answer: dict[str, Any]) -> Series:
        uid = _value(answer, SERIES)
        images = self._search(
            IMAGE, self._client.search_for_instances, study_instance_uid=study, series_instance_uid=uid
        )
        uids = frozenset(_value(image, IMAGE) for image in images)
        return Series(study, uid, uids, whole_number(_value(answer, IN_SERIES)))

    def fetch(self, series: Series, missing: frozenset[str], store: Store) -> None:
        for image in sorted(missing):
            try:
                file = _asked(lambda uid=image: self._file(series, uid))  # type: ignore[misc]
            except Refused as refused:
                log.info("not fetched: %s: %s", image, refused)
            else:
                store(image, file)

    def _file(self, series: Series, image: str) -> bytes:
        """An image as a file. Raises Refused if it is another than was asked for."""
        ds = self._client.retrieve_instance(series.study, series.uid, image)
        if ds.get("SOPInstanceUID") != image or ds.get("StudyInstanceUID", series.study) != series.study:
            raise Refused("another image than was asked for")
        file = BytesIO()
        ds.save_as(file, enforce_file_format=True)
        return file.getvalue()

    def store(self, objects: Sequence[Dataset]) -> None:
        """By the service's word for each (PS3.18 10.5.3.2), as some answer 202 and have refused all. Where it
        gives none, it is asked what it has."""
        answer = _asked(lambda: self._client.store_instances(list(objects)))
        failed = [int(one.get("FailureReason", 0) or 0) for one in items(answer, "FailedSOPSequence")]
        if reasons := [reason for reason in failed if reason != DUPLICATE]:
            raise Refused(f"failure 0x{reasons[0]:04X}")
        taken = {text(one, "ReferencedSOPInstanceUID") for one in items(answer, "ReferencedSOPSequence")}
        for ds in objects:
            if ds.SOPInstanceUID not in taken:
                study, series = str(ds.StudyInstanceUID), str(ds.SeriesInstanceUID)
                taken |= self._series(study, {SERIES: {"Value": [series]}}).images
            if ds.SOPInstanceUID not in taken:
                raise Refused("what was sent is not there")

    def _search(
        self, uid: str, search: Callable[..., list[dict[str, Any]]], **asked_of: Any
    ) -> Iterator[dict[str, Any]]:
        """Every answer once, by its `uid`, page by page until a page brings nothing new: services cap their
        pages silently, refuse long ones, or ignore where they should begin."""
        seen: set[str] = set()
        offset = 0
        while True:
            page, n_before = self._page(search, offset, asked_of), len(seen)
            for answer in page:
                name = _value(answer, uid)
                if name and name not in seen:
                    seen.add(name)
                    yield answer
            if len(seen) == n_before:
                return
            if len(seen) > MAX_ANSWERS:
                raise Refused(f"more than {MAX_ANSWERS} answers to one question")
            offset += len(page)

    def _page(
        self, search: Callable[..., list[dict[str, Any]]], offset: int, asked_of: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """As long as the service allows: what it refuses is asked for in smaller pieces, from then on."""
        while True:
            try:
                page = _asked(lambda: search(**asked_of, limit=self._limit, offset=offset))
            except Refused as refused:
                if str(refused) not in TOO_LONG or self._limit <= SMALLEST_PAGE:
                    raise
                self._limit = max(SMALLEST_PAGE, self._limit // 5)
            else:
                if not isinstance(page, list) or not all(isinstance(answer, dict) for answer in page):
                    raise Refused("an answer that is not DICOMweb")
                return page


class BoundedSession(requests.Session):
    """Reads an answer as far as it may go: no service can fill the memory, or drip for ever."""

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """As `requests` does, the whole body read. Raises a RequestException beyond the bounds."""
        response = super().send(request, **{**kwargs, "stream": True})
        most = MAX_LIST_BYTES if "json" in request.headers.get("Accept", "") else MAX_BYTES
        until, parts, n = time.monotonic() + LONGEST_S, [], 0
        for part in response.iter_content(1 << 16):
            parts.append(part)
            n += len(part)
            if n > most or time.monotonic() > until:
                response.close()
                raise requests.exceptions.ContentDecodingError("an answer without an end")
        response._content = b"".join(parts)
        return response


def _asked(question: Callable[[], T]) -> T:
    try:
        return question()
    except (Refused, Unreachable):
        raise
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as e:
        raise Unreachable(type(e).__name__) from None
    except requests.HTTPError as e:
        status = e.response.status_code if e.response is not None else 0
        if status in (429, 502, 503, 504):
            raise Unreachable(f"HTTP {status}") from None
        raise Refused(f"HTTP {status}") from None
    except Exception as e:  # what parses a foreign answer, or writes it as a file, may raise anything
        raise Refused(f"an answer that is not DICOMweb ({type(e).__name__})") from None


def _value(answer: dict[str, Any], tag: str) -> str:
    """The first value, without the padding that some services keep; empty for anything else."""
    element = answer.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return str(values[0]).strip(" \0") if isinstance(values, list) and values else ""
