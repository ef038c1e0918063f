"""Images that arrive (C-STORE): who may send them, how much of them, and to whom they are handed."""

import contextlib
import math
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakKeyDictionary

from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

Keep = Callable[[str, str, bytes], None]
"""Takes a Study Instance UID, a SOP Instance UID and a DICOM file."""
MAX_IMAGE_BYTES = 2 * 2**30
"""Of one image: an enhanced CT is the largest."""
SUCCESS, CANNOT, NOT_AUTHORISED = 0x0000, 0xA700, 0x0124


class Bound:
    """Counts what arrives on an association, and closes the connection before it fills the memory.

    Not by an abort, which would wait for a peer that still sends.
    """

    def __init__(self) -> None:
        self._left = math.inf

    def allow(self, n_bytes: float) -> None:
        """So many more may arrive."""
        self._left = n_bytes

    @property
    def is_broken(self) -> bool:
        return self._left < 0

    def count(self, event: evt.Event) -> None:
        """Of each piece that arrives."""
        self._left -= len(event.data)
        if self._left < 0 and (connection := event.assoc.dul.socket) is not None:
            connection.close()


def without_delay(event: Any) -> None:
    """Send small messages at once: held back for others to join them, each question takes 90 ms instead of
    10."""
    event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def addresses_of(host: str | None) -> frozenset[str]:
    """Of a host by name or address; none where it is not known, or has none."""
    try:
        return frozenset(str(info[4][0]) for info in socket.getaddrinfo(host, None)) if host else frozenset()
    except OSError:
        return frozenset()


def handler(keep: Keep, senders: frozenset[str] = frozenset()) -> Callable[[Any], int]:
    """For C-STORE: hands study, image and file to `keep`, and tells the sender if that failed. With
    `senders`, what comes from another address is refused."""

    def handle(event: Any) -> int:
        if senders and event.assoc.requestor.address not in senders:
            return NOT_AUTHORISED
        try:
            study = str(event.dataset.get("StudyInstanceUID", "") or "")
            keep(study, str(event.request.AffectedSOPInstanceUID), event.encoded_dataset())
        except Exception:  # a full disk, an odd data set: the sender keeps it, and may try again
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
        self._awaited: dict[str, Keep] = {}  # by study
        self._one_at_a_time = threading.Lock()  # a PACS may send on several associations
        self._bounds: WeakKeyDictionary[Association, Bound] = WeakKeyDictionary()

    def __enter__(self) -> "Receiver":
        """Listen. Raises OSError if the port is taken."""
        handlers: list[Any] = [
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_CONN_OPEN, without_delay),
            (evt.EVT_DATA_RECV, self._count),
        ]
        self._ae.start_server(self._address, block=False, evt_handlers=handlers)
        return self

    def __exit__(self, *_: object) -> None:
        self._ae.shutdown()

    @contextlib.contextmanager
    def giving_to(self, study: str, keep: Keep) -> Iterator[None]:
        """Hand what arrives of a study to `keep` for a while."""
        self._awaited[study] = keep
        try:
            yield
        finally:
            del self._awaited[study]

    def _store(self, event: evt.Event) -> int:
        self._bound_of(event.assoc).allow(MAX_IMAGE_BYTES)  # for the next
        return handler(self._arrived, self._caller)(event)

    def _count(self, event: evt.Event) -> None:
        self._bound_of(event.assoc).count(event)

    def _bound_of(self, association: Association) -> Bound:
        """One image more than what has come may arrive on each association."""
        if (bound := self._bounds.get(association)) is None:
            bound = self._bounds[association] = Bound()
            bound.allow(MAX_IMAGE_BYTES)
        return bound

    def _arrived(self, study: str, image: str, file: bytes) -> None:
        with self._one_at_a_time:
            self._awaited.get(study, self._keep)(study, image, file)


def refuse(_study: str, _image: str, _file: bytes) -> None:
    """For a receiver that waits for what it asked for, and takes nothing else."""
    raise LookupError("nobody asked for this")
