"""DICOM query and retrieve (C-FIND, C-GET, C-MOVE) and the receiver for what a PACS pushes (C-STORE), by
pynetdicom."""

import contextlib
import logging
import math
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

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
    ALL_TRANSFER_SYNTAXES,
    AllStoragePresentationContexts,
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
    Verification,
    XRayAngiographicImageStorage,
    XRayRadiofluoroscopicImageStorage,
)

from client.imaging.facts.text import text
from client.pacs.archive import MAX_ANSWERS, Refused, Series, Store, Unreachable, whole_number

logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)  # it logs requests, with patients' IDs

KEYWORDS = {"patient": "PatientID", "study": "StudyInstanceUID", "accession": "AccessionNumber"}
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
SUCCESS, PENDING, CANNOT, NOT_AUTHORISED = 0x0000, (0xFF00, 0xFF01), 0xA700, 0x0124
SOME_FAILED = 0xB000
"""Some images of a C-GET or C-MOVE were not sent: the others are here, and pull.py counts what is missing."""
TIMEOUT_S = 30.0
Keep = Callable[[str, str, bytes], None]
"""Takes a Study Instance UID, a SOP Instance UID and a DICOM file."""
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

    def __init__(self, peer: Peer, receiver: "Receiver | None" = None) -> None:
        self._peer, self._receiver = peer, receiver
        self._association: Association | None = None
        self._keep: Keep = refuse
        self._left = math.inf  # bytes that may still arrive
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
        asked = _query("STUDY", **{"StudyInstanceUID": "", "PatientID": "", KEYWORDS[key]: value})
        for answer in self._find(asked):
            if uid := text(answer, "StudyInstanceUID"):
                yield uid, text(answer, "PatientID")

    def series(self, study: str, modalities: tuple[str, ...]) -> list[Series]:
        keys = dict.fromkeys(("SeriesInstanceUID", "Modality", "NumberOfSeriesRelatedInstances"), "")
        answers = self._find(_query("SERIES", StudyInstanceUID=study, **keys))
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
            evt_handlers=[(evt.EVT_CONN_OPEN, _without_delay)],
        )
        self._require_established(association)
        try:
            for ds in objects:
                _require_success([association.send_c_store(ds)])
        except ValueError as e:  # no context for this kind of object was accepted
            raise Refused(type(e).__name__) from None
        finally:
            association.release()

    def _find(self, asked: Dataset) -> list[Dataset]:
        with self._associated() as association, self._bounded():
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
    def _bounded(self) -> Iterator[None]:
        """While a question is answered: what arrives is counted, and cut off before it fills the memory."""
        self._left = MAX_FIND_BYTES
        try:
            yield
        finally:
            cut_off, self._left = self._left < 0, math.inf
            if cut_off:
                self._association = None
                raise Refused(f"more than {MAX_FIND_BYTES // 2**20} MiB of answers to one question")

    def _count(self, event: evt.Event) -> None:
        """Of each piece that arrives. The connection is closed under the association: an abort would wait for
        a peer that still sends."""
        self._left -= len(event.data)
        if self._left < 0 and (connection := event.assoc.dul.socket) is not None:
            connection.close()

    def _get(self, asked: Dataset, study: str, store: Store) -> None:
        def keep(of: str, image: str, file: bytes) -> None:
            if of not in ("", study):
                raise LookupError("nobody asked for this")
            store(image, file)

        self._keep = keep
        with self._associated() as association:
            answers = association.send_c_get(asked, StudyRootQueryRetrieveInformationModelGet)
            _require_success([status for status, _ in answers], enough=SOME_FAILED)

    def _move(self, asked: Dataset, receiver: "Receiver", missing: frozenset[str], store: Store) -> None:
        """The PACS sends to our receiver, on associations of its own; done when the missing images have
        come."""
        expected, news = set(missing), threading.Condition()

        def keep(_study: str, image: str, file: bytes) -> None:
            store(image, file)
            with news:
                expected.discard(image)
                news.notify()

        with receiver.giving_to(keep), self._associated() as association:
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
        try:
            yield self._association
        except (Refused, Unreachable):
            raise
        except Exception as e:  # a lost association, a context that was not accepted, an odd data set
            raise (Refused if self._association.is_established else Unreachable)(type(e).__name__) from None

    def _associate(self) -> Association:
        association = self._ae.associate(
            self._peer.host,
            self._peer.port,
            ae_title=self._peer.title,
            ext_neg=[build_role(kind, scp_role=True) for kind in IMAGES] if self._receiver is None else [],
            evt_handlers=[
                (evt.EVT_C_STORE, _handler(lambda *arrived: self._keep(*arrived))),
                (evt.EVT_CONN_OPEN, _without_delay),
                (evt.EVT_DATA_RECV, self._count),
            ],
        )
        self._require_established(association)
        return association

    def _require_established(self, association: Association) -> None:
        if association.is_rejected:
            raise Refused(f"{self._peer.title} does not take calls from {self._peer.own_title}")
        if not association.is_established:
            raise Unreachable("no association")


def _without_delay(event: Any) -> None:
    """Send small messages at once: held back for others to join them, each question takes 90 ms instead of
    10."""
    event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _query(level: str, **keys: str) -> Dataset:
    asked = Dataset()
    asked.QueryRetrieveLevel = level
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


def addresses_of(host: str | None) -> frozenset[str]:
    """Of a host by name or address; none where it is not known, or has none."""
    try:
        return frozenset(str(info[4][0]) for info in socket.getaddrinfo(host, None)) if host else frozenset()
    except OSError:
        return frozenset()


def _handler(keep: Keep, senders: frozenset[str] = frozenset()) -> Callable[[Any], int]:
    """For C-STORE: hands study, image and file to `keep`, and tells the sender if that failed. With
    `senders`, what comes from another address is refused."""

    def handle(event: Any) -> int:
        if senders and event.assoc.requestor.address not in senders:
            return NOT_AUTHORISED
        try:
            study = str(event.dataset.get("StudyInstanceUID", "") or "")
            keep(study, str(event.request.AffectedSOPInstanceUID), event.encoded_dataset())
        except (
            Exception
        ):  # a full disk, a data set that cannot be parsed: the sender keeps it and may try again
            return CANNOT
        return SUCCESS

    return handle


class Receiver:
    """Takes what a PACS sends, while it is open (a context manager).

    Args:
        host, port: where to listen.
        own_title: our title; others are not answered.
        caller: title and, where it is known, host of the only one who may send: titles are anybody's to name.
        keep: takes the study, the image and the file of whatever arrives; the sender is told if it raises.
    """

    def __init__(
        self, host: str, port: int, own_title: str, caller: tuple[str, str | None], keep: Keep
    ) -> None:
        self._ae = AE(own_title)
        self._ae.supported_contexts = AllStoragePresentationContexts
        for context in self._ae.supported_contexts:
            context.transfer_syntax = ALL_TRANSFER_SYNTAXES  # type: ignore[assignment]
        self._ae.add_supported_context(Verification)
        self._ae.require_called_aet = True
        self._ae.require_calling_aet = [caller[0]]
        self._caller = addresses_of(caller[1])
        self._address, self._keep = (host, port), keep
        self._one_at_a_time = threading.Lock()  # a PACS may send on several associations

    def __enter__(self) -> "Receiver":
        """Listen. Raises OSError if the port is taken."""
        handlers: list[Any] = [
            (evt.EVT_C_STORE, _handler(self._arrived, self._caller)),
            (evt.EVT_CONN_OPEN, _without_delay),
        ]
        self._ae.start_server(self._address, block=False, evt_handlers=handlers)
        return self

    def __exit__(self, *_: object) -> None:
        self._ae.shutdown()

    @contextlib.contextmanager
    def giving_to(self, keep: Keep) -> Iterator[None]:
        """Hand what arrives to `keep` for a while."""
        before, self._keep = self._keep, keep
        try:
            yield
        finally:
            self._keep = before

    def _arrived(self, study: str, image: str, file: bytes) -> None:
        with self._one_at_a_time:
            self._keep(study, image, file)


def refuse(_study: str, _image: str, _file: bytes) -> None:
    """For a receiver that waits for what it asked for, and takes nothing else."""
    raise LookupError("nobody asked for this")
