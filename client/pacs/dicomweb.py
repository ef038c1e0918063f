"""DICOMweb: QIDO-RS to find, WADO-RS to fetch (PS3.18), by dicomweb-client."""

from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from typing import Any, TypeVar

import requests
from dicomweb_client import DICOMwebClient
from pydicom import Dataset
from pydicom.errors import InvalidDicomError

from client.pacs.archive import Refused, Series, Store, Unreachable

T = TypeVar("T")
KEYWORDS = {"patient": "PatientID", "study": "StudyInstanceUID", "accession": "AccessionNumber"}
STUDY, PATIENT, MODALITY, SERIES, IMAGE = "0020000D", "00100020", "00080060", "0020000E", "00080018"
PAGE = 1000
TIMEOUT_S = 30.0


class DicomwebArchive:
    """A PACS behind DICOMweb.

    Args:
        url: of the service, for example https://pacs.example.org/dicom-web
        token: a bearer token, if the service asks for one.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        session = requests.Session()
        session.trust_env = False  # the PACS is in the house: not through a proxy of the environment
        if token is not None:
            session.headers["Authorization"] = f"Bearer {token}"
        self._client = DICOMwebClient(url, session=session, timeout=TIMEOUT_S)
        self._client.set_http_retry_params(retry=False)  # pull.py does

    def studies(self, key: str, value: str) -> Iterator[tuple[str, str]]:
        for found in self._search(self._client.search_for_studies, search_filters={KEYWORDS[key]: value}):
            if uid := _value(found, STUDY):
                yield uid, _value(found, PATIENT)

    def series(self, study: str, modalities: tuple[str, ...]) -> list[Series]:
        images: dict[str, set[str]] = {}
        for found in self._search(
            self._client.search_for_series, study_instance_uid=study, fields=[MODALITY]
        ):
            if _value(found, MODALITY) in modalities:
                images[_value(found, SERIES)] = set()
        for uid in images:
            here = self._search(
                self._client.search_for_instances, study_instance_uid=study, series_instance_uid=uid
            )
            images[uid] |= {_value(found, IMAGE) for found in here} - {""}
        return [Series(study, uid, frozenset(found)) for uid, found in sorted(images.items())]

    def fetch(self, series: Series, missing: frozenset[str], store: Store) -> None:
        for image in sorted(missing):
            ds = _asked(lambda uid=image: self._client.retrieve_instance(series.study, series.uid, uid))  # type: ignore[misc]
            file = BytesIO()
            ds.save_as(file, enforce_file_format=True)
            store(image, file.getvalue())

    def store(self, objects: Sequence[Dataset]) -> None:
        _asked(lambda: self._client.store_instances(list(objects)))

    def _search(self, search: Callable[..., list[dict[str, Any]]], **about: Any) -> Iterator[dict[str, Any]]:
        """Every answer, page by page: services limit their number."""
        offset = 0
        while True:
            page = _asked(lambda start=offset: search(**about, limit=PAGE, offset=start))  # type: ignore[misc]
            yield from page
            if len(page) < PAGE:
                return
            offset += len(page)


def _asked(question: Callable[[], T]) -> T:
    try:
        return question()
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as e:
        raise Unreachable(type(e).__name__) from None
    except requests.HTTPError as e:
        status = e.response.status_code if e.response is not None else 0
        if status in (429, 502, 503, 504):
            raise Unreachable(f"HTTP {status}") from None
        raise Refused(f"HTTP {status}") from None
    except (requests.RequestException, InvalidDicomError, ValueError, KeyError) as e:
        raise Refused(f"an answer that is not DICOMweb ({type(e).__name__})") from None


def _value(found: dict[str, Any], tag: str) -> str:
    values = found.get(tag, {}).get("Value") or [""]
    return str(values[0])
