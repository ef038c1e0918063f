"""`pneumofed client pull`, `receive` and `read`: a site's PACS, as hospital.yaml names it."""

import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pydicom import dcmread
from pydicom.uid import UID

from client.forgetting import Tombstones
from client.imaging.dicom import MODALITIES
from client.imaging.labels import read_labels
from client.pacs.archive import Archive, Refused, Unreachable
from client.pacs.inbox import Inbox
from client.pacs.pull import Pull, Wanted
from client.settings import Pacs, SiteFolder
from common.credentials import require_private
from common.errors import ConfigError, LinkError
from common.logs import log_to
from common.plan import Plan

if TYPE_CHECKING:
    from client.pacs.receiver import Keep, Receiver


@contextlib.contextmanager
def pulling(folder: SiteFolder, plan: Plan) -> Iterator[tuple[Pull, Wanted]]:
    """A pull of what the site's labels name, and what to give it. Which studies failed is written to
    logs/pull.log.

    Raises:
        ConfigError: hospital.yaml names no PACS, or no labels; its token or our port cannot be used.
        DataError: the labels cannot be read.
    """
    pacs, inbox = _pacs(folder), _inbox(folder)
    labels = read_labels(_labels(folder), plan.findings, plan.input.label)
    modality = plan.input.modality
    wanted = Wanted(
        labels.key, sorted(labels.known()), MODALITIES[modality], history=modality == "xray",
        owners=labels.owners(),
    )  # fmt: skip
    with contextlib.ExitStack() as stack:
        stack.enter_context(log_to(folder.logs / "pull.log", logging.getLogger("pneumofed.pull")))
        receiver = stack.enter_context(_listening(folder, pacs, None)) if pacs.retrieve == "move" else None
        yield Pull(stack.enter_context(_archive(pacs, receiver)), inbox, pacs.images_per_second), wanted


@contextlib.contextmanager
def receiving(folder: SiteFolder) -> Iterator[Inbox]:
    """Take what the PACS pushes, as long as this is open.

    Raises:
        ConfigError: hospital.yaml does not name the PACS by its title, or the port cannot be used.
    """
    pacs, inbox = _pacs(folder), _inbox(folder)
    if pacs.title is None:
        raise ConfigError(
            f"{folder.settings_file}: data.pacs.title: expected the title of the only PACS that may send"
        )
    with _listening(folder, pacs, inbox.put_pushed):
        yield inbox


def _inbox(folder: SiteFolder) -> Inbox:
    return inbox_of(folder, folder.images)


def inbox_of(folder: SiteFolder, place: Path) -> Inbox:
    """Asks at every image who is forgotten: a long pull hears of it."""
    return Inbox(place, lambda patient: Tombstones.read(folder).holds(patient))


@contextlib.contextmanager
def on_call(folder: SiteFolder, ring: Callable[[str], None] | None) -> Iterator[tuple[Pacs, Archive]]:
    """The site's PACS, to be asked; with `ring` it can push too. What it pushes is not kept: it says that a
    study is there to be fetched, whole, by what the PACS lists of it.

    Raises:
        ConfigError: hospital.yaml names no PACS, or with `ring` not by title and host; the port cannot be
        used.
    """
    pacs = _pacs(folder)

    def hear(study: str, _image: str, _file: bytes) -> None:
        assert ring is not None
        if not UID(study).is_valid:
            raise ValueError("no study")  # an empty UID would ask the PACS for all that it has
        ring(study)

    with contextlib.ExitStack() as stack:
        stack.enter_context(log_to(folder.logs / "read.log", logging.getLogger("pneumofed.read")))
        receiver = None
        if ring is not None:
            if pacs.title is None or pacs.host is None:
                raise ConfigError(
                    f"{folder.settings_file}: data.pacs: expected title and host of the PACS that may push; "
                    "or read by --accession"
                )
            receiver = stack.enter_context(_listening(folder, pacs, hear))
        elif pacs.retrieve == "move":
            receiver = stack.enter_context(_listening(folder, pacs, None))
        archive = _archive(pacs, receiver if pacs.retrieve == "move" else None)
        yield pacs, stack.enter_context(archive)


def ask_nothing(pacs: Pacs) -> None:
    """Ask for a study that nobody has: does the PACS answer us? Raises Unreachable, Refused or
    ConfigError."""
    with _archive(pacs, None) as archive:
        list(archive.studies("study", "1.2.3.4.5.6.7.8.9.0"))


def store_files(folder: SiteFolder, files: list[Path]) -> int:
    """Send DICOM files to the site's PACS (STOW-RS or C-STORE, as it is asked); returns how many it took.

    Raises:
        ConfigError: hospital.yaml names no PACS.
        LinkError: the PACS does not answer, or refuses one.
    """
    pacs = _pacs(folder)
    where = pacs.where
    try:
        with _archive(pacs, None) as archive:
            archive.store([dcmread(path) for path in files])
    except Unreachable as e:
        raise LinkError(f"{where} does not answer ({e}); what was made is kept, send it again") from None
    except Refused as e:
        raise LinkError(f"{where} does not take what was made ({e}); may {pacs.own_title} store?") from None
    return len(files)


def told_to_end() -> threading.Event:
    """Set by Ctrl-C or SIGTERM."""
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    return ended


def _pacs(folder: SiteFolder) -> Pacs:
    pacs = folder.settings().data.pacs
    if pacs is None:
        raise ConfigError(
            f"{folder.settings_file}: data.pacs: expected the PACS to fetch images from (docs/hospital.md)"
        )
    return pacs


def _labels(folder: SiteFolder) -> Path:
    labels = folder.settings().data.labels
    if labels is None:
        raise ConfigError(
            f"{folder.settings_file}: data.labels: expected the table that says which images to fetch"
        )
    return Path(labels).expanduser()


@contextlib.contextmanager
def _archive(pacs: Pacs, receiver: "Receiver | None") -> Iterator[Archive]:
    if pacs.retrieve == "dicomweb":
        from client.pacs.dicomweb import DicomwebArchive

        assert pacs.url is not None  # settings see to it
        yield DicomwebArchive(pacs.url, _token(pacs))
        return
    from client.pacs.dimse import DimseArchive, Peer

    assert pacs.host is not None
    assert pacs.title is not None
    with DimseArchive(Peer(pacs.host, pacs.port, pacs.title, pacs.own_title), receiver) as archive:
        yield archive


@contextlib.contextmanager
def _listening(folder: SiteFolder, pacs: Pacs, keep: "Keep | None") -> Iterator["Receiver"]:
    """Our receiver. It takes what the PACS sends: with `keep` everything, without only what we wait for."""
    from client.pacs.receiver import Receiver, refuse

    assert pacs.title is not None
    with contextlib.ExitStack() as stack:
        try:
            receiver = stack.enter_context(
                Receiver(pacs.listen, pacs.own_port, pacs.own_title, (pacs.title, pacs.host), keep or refuse)
            )
        except OSError as e:
            where = f"{pacs.listen}:{pacs.own_port}"
            raise ConfigError(
                f"{folder.settings_file}: data.pacs.own_port: cannot listen on {where}: {e.strerror}"
            ) from None
        yield receiver


def _token(pacs: Pacs) -> str | None:
    if pacs.token is None:
        return None
    path = Path(pacs.token).expanduser()
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; data.pacs.token expects the file with the token")
    require_private(path)
    return path.read_text(encoding="utf-8").strip()
