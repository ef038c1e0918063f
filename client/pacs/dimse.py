"""DICOM query and retrieve (C-FIND, C-GET, C-MOVE), by pynetdicom."""

import contextlib
import logging
import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydicom import Dataset
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)
from pynetdicom import (
    AE,
    build_context,
    build_role,
    evt,
)
from pynetdicom.association import Association
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    EnhancedCTImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    SecondaryCaptureImageStorage,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    XRayAngiographicImageStorage,
    XRayRadiofluoroscopicImageStorage,
)

from client.imaging.facts.text import text
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
from client.pacs.receiver import (
    MAX_IMAGE_BYTES,
    SUCCESS,
    Bound,
    Keep,
    Receiver,
    handler,
    refuse,
    without_delay,
)

logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)  # it logs requests, with patients' IDs

IMAGES = (
    ComputedRadiographyImageStorage, DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing, CTImageStorage, EnhancedCTImageStorage,
    LegacyConvertedEnhancedCTImageStorage, XRayRadiofluoroscopicImageStorage, XRayAngiographicImageStorage,
    SecondaryCaptureImageStorage,
)  # fmt: skip
"""What C-GET may bring: an association cannot name all storage classes."""
PLAIN = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
PACKED = (
    JPEG2000Lossless, JPEG2000, JPEGLosslessSV1, JPEGLossless, JPEGBaseline8Bit, JPEGExtended12Bit,
    JPEGLSLossless, JPEGLSNearLossless, RLELossless, HTJ2KLossless, DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
)  # fmt: skip
"""Each has a context of its own: a PACS that does not transcode sends an image only as it lies there, and of
a context with several it accepts one."""
PENDING = (0xFF00, 0xFF01)
SOME_FAILED = 0xB000
"""Some images of a C-GET or C-MOVE were not sent: the others are here, and pull.py counts what is missing."""
TIMEOUT_S = 30.0
MAX_FIND_BYTES = 256 * 2**20
"""Of all answers to one question: MAX_ANSWERS of some 2 kB."""
QUIET_S = 5.0
"""How long after C-MOVE's last word an image may still be on its way."""


@dataclass(frozen=True)
class Peer:
    """Who is called, and as whom: hosts, ports and application entity titles."""

    host: str
    port: int
    title: str
    own_title: str


class DimseArchive:
    """A PACS behind DICOM's own protocol. Pictures come over the same association (C-GET), or to our receiver
    (C-MOVE).

    A context manager: one association is kept for all questions, and made anew when it breaks.
    """

    def __init__(self, peer: Peer, receiver: Receiver | None = None) -> None:
        self._peer, self._receiver = peer, receiver
        self._association: Association | None = None
        self._keep: Keep = refuse
        self._studies = Studies()
        self._bound = Bound()
        self._ae = AE(peer.own_title)
        self._ae.acse_timeout = self._ae.dimse_timeout = self._ae.network_timeout = (
            self._ae.connection_timeout
        ) = TIMEOUT_S
        self._ae.add_requested_context(StudyRootQueryRetrieveInformationModelFind)
        if receiver is not None:
            self._ae.add_requested_context(StudyRootQueryRetrieveInformationModelMove)
            return
        self._ae.add_requested_context(StudyRootQueryRetrieveInformationModelGet)
        self._ae.requested_contexts = [
            *self._ae.requested_contexts,
            *(build_context(kind, [*PLAIN]) for kind in IMAGES),
            *(build_context(kind, syntax) for kind in IMAGES for syntax in PACKED),
        ]

    def __enter__(self) -> "DimseArchive":
        return self

    def __exit__(self, *_: object) -> None:
        if self._association is not None and self._association.is_established:
            self._association.release()
        self._ae.shutdown()

    def studies(self, key: str, value: str) -> Iterator[tuple[str, str]]:
        keys = dict.fromkeys(("StudyInstanceUID", "PatientID", "NumberOfStudyRelatedSeries"), "")
        for answer in self._find(_query("STUDY", **{**keys, KEYWORDS[key]: value})):
            uid = text(answer, "StudyInstanceUID")
            if uid and is_about(text(answer, KEYWORDS[key]), value):
                self._studies.note(uid, text(answer, "NumberOfStudyRelatedSeries"))
                yield uid, text(answer, "PatientID")

    def series(self, study: str, modalities: tuple[str, ...]) -> list[Series]:
        keys = dict.fromkeys(("SeriesInstanceUID", "Modality", "NumberOfSeriesRelatedInstances"), "")
        answers = self._find(_query("SERIES", StudyInstanceUID=study, **keys))
        self._studies.require_whole(
            study, len({text(answer, "SeriesInstanceUID") for answer in answers} - {""})
        )
        announced = {
            text(answer, "SeriesInstanceUID"): whole_number(text(answer, "NumberOfSeriesRelatedInstances"))
            for answer in answers
            if text(answer, "Modality") in modalities
        }
        return [
            Series(study, uid, self._images(study, uid), n) for uid, n in sorted(announced.items()) if uid
        ]

    def _images(self, study: str, series: str) -> frozenset[str]:
        asked = _query("IMAGE", StudyInstanceUID=study, SeriesInstanceUID=series, SOPInstanceUID="")
        return frozenset(text(answer, "SOPInstanceUID") for answer in self._find(asked)) - {""}

    def fetch(self, series: Series, missing: frozenset[str], store: Store) -> None:
        asked = _query("SERIES", StudyInstanceUID=series.study, SeriesInstanceUID=series.uid)
        if self._receiver is None:
            self._get(asked, series.study, store)
        else:
            self._move(asked, self._receiver, missing, store)

    def store(self, objects: Sequence[Dataset]) -> None:
        """On an association of its own: the one for questions has no room for what we make."""
        ae = AE(self._peer.own_title)
        for kind in sorted({UID(ds.SOPClassUID) for ds in objects}):
            ae.add_requested_context(kind, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
        association = ae.associate(
            self._peer.host,
            self._peer.port,
            ae_title=self._peer.title,
            evt_handlers=[(evt.EVT_CONN_OPEN, without_delay)],
        )
        self._require_established(association)
        taken = {context.abstract_syntax for context in association.accepted_contexts}
        try:
            for ds in objects:  # all or nothing: half a result, again at every try, would be in the way
                if ds.SOPClassUID not in taken:
                    raise Refused(f"it takes no {UID(ds.SOPClassUID).name}")
            with _told(association):
                for ds in objects:
                    _require_success([association.send_c_store(ds)], enough=DUPLICATE)
        finally:
            association.release()

    def _find(self, asked: Dataset) -> list[Dataset]:
        with self._associated() as association, self._bounded(MAX_FIND_BYTES, "answers to one question"):
            answers = []
            for status, answer in association.send_c_find(asked, StudyRootQueryRetrieveInformationModelFind):
                answers.append((status, answer))
                if len(answers) > MAX_ANSWERS:
                    association.abort()
                    raise Refused(f"more than {MAX_ANSWERS} answers to one question")
            _require_success([status for status, _ in answers])
        pending = [answer for status, answer in answers if status.Status in PENDING]
        if None in pending:
            raise Refused("an answer that cannot be read")
        return [answer for answer in pending if answer is not None]

    @contextlib.contextmanager
    def _bounded(self, most: int, what: str) -> Iterator[None]:
        """While a question is answered: what arrives is counted, and cut off."""
        self._bound.allow(most)
        try:
            yield
        finally:
            cut_off = self._bound.is_broken
            self._bound.allow(math.inf)
            if cut_off:
                self._association = None
                raise Refused(f"more than {most // 2**20} MiB of {what}")

    def _get(self, asked: Dataset, study: str, store: Store) -> None:
        def keep(of: str, image: str, file: bytes) -> None:
            if of not in ("", study):
                raise LookupError("nobody asked for this")
            store(image, file)
            self._bound.allow(MAX_IMAGE_BYTES)  # for the next

        self._keep = keep
        with self._associated() as association, self._bounded(MAX_IMAGE_BYTES, "one image"):
            answers = association.send_c_get(asked, StudyRootQueryRetrieveInformationModelGet)
            _require_success([status for status, _ in answers], enough=SOME_FAILED)

    def _move(self, asked: Dataset, receiver: Receiver, missing: frozenset[str], store: Store) -> None:
        """The PACS sends to our receiver, on associations of its own; done when the missing images have
        come."""
        expected, news = set(missing), threading.Condition()

        def keep(_study: str, image: str, file: bytes) -> None:
            store(image, file)
            with news:
                expected.discard(image)
                news.notify()

        with receiver.giving_to(str(asked.StudyInstanceUID), keep), self._associated() as association:
            answers = association.send_c_move(
                asked, self._peer.own_title, StudyRootQueryRetrieveInformationModelMove
            )
            _require_success([status for status, _ in answers], enough=SOME_FAILED)
            with news:
                while expected and news.wait(QUIET_S):
                    pass

    @contextlib.contextmanager
    def _associated(self) -> Iterator[Association]:
        """The association that is open, or a new one."""
        if self._association is None or not self._association.is_established:
            self._association = self._associate()
        with _told(self._association):
            yield self._association

    def _associate(self) -> Association:
        association = self._ae.associate(
            self._peer.host,
            self._peer.port,
            ae_title=self._peer.title,
            ext_neg=[build_role(kind, scp_role=True) for kind in IMAGES] if self._receiver is None else [],
            evt_handlers=[
                (evt.EVT_C_STORE, handler(lambda *arrived: self._keep(*arrived))),
                (evt.EVT_CONN_OPEN, without_delay),
                (evt.EVT_DATA_RECV, self._bound.count),
            ],
        )
        self._require_established(association)
        return association

    def _require_established(self, association: Association) -> None:
        if association.is_rejected:
            raise Refused(f"{self._peer.title} does not take calls from {self._peer.own_title}")
        if not association.is_established:
            raise Unreachable("no association")


@contextlib.contextmanager
def _told(association: Association) -> Iterator[None]:
    """Whatever goes wrong on it is the PACS's no, or its absence."""
    try:
        yield
    except (Refused, Unreachable):
        raise
    except Exception as e:  # a lost association, a context that was not accepted, an odd data set
        raise (Refused if association.is_established else Unreachable)(type(e).__name__) from None


def _query(level: str, **keys: str) -> Dataset:
    asked = Dataset()
    asked.QueryRetrieveLevel = level
    if not all(value.isascii() for value in keys.values()):
        asked.SpecificCharacterSet = "ISO_IR 192"  # without it each letter goes out as ?, which asks for all
    for keyword, value in keys.items():
        setattr(asked, keyword, value)
    return asked


def _require_success(statuses: list[Dataset], enough: int = SUCCESS) -> None:
    """Raise unless an operation ended well, or `enough`: no status at all means that the association
    broke."""
    last = statuses[-1] if statuses else None
    if last is None or "Status" not in last:
        raise Unreachable("the association broke")
    if last.Status not in (SUCCESS, enough):
        raise Refused(f"status 0x{last.Status:04X}")
