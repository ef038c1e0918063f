"""One patient's images in order. A sequence is the unit of batching, splitting, evaluation and privacy."""

from collections import Counter
from collections.abc import Mapping, Set
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from client.imaging.choosing import check_places, choose_images
from client.imaging.dicom import Header
from client.imaging.frames import Frame
from client.imaging.outcome import Reason, Tally
from client.imaging.pixels import DicomPixels
from common.plan import Input

SECONDS_A_DAY = 86400.0


@dataclass(frozen=True)
class Sequence:
    """One patient's ordered images with labels."""

    patient: str  # as the source names it; becomes a pseudonym in the cohort
    frames: tuple[Frame, ...]
    labels: NDArray[np.float32]  # (K,) 0, 1, or NaN where unknown
    scanner: str = "unknown"
    sex: str = "unknown"
    age: str = "unknown"  # a band of years
    view: str = "unknown"
    own: tuple[Frame, ...] = ()  # of the frames, those of the visit that the labels are about; (): all


@dataclass
class Collection:
    """All that a source holds, and what fell out of it."""

    sequences: list[Sequence]
    tally: Tally
    removed: Mapping[str, int] = field(default_factory=dict)  # identifying attribute -> files that had it
    identifiers: frozenset[str] = frozenset()  # what the finished cohort is scanned for, lower case


def episodes(
    headers: Seq[Header], key: str, known: Set[str], modality: str, tally: Tally
) -> dict[str, list[Header]]:
    """One patient's images, ordered: for each key in `known`, those that a label of it is about.

    A label of a patient is about all images of the patient. A label of a study or an accession (`key`) is
    about its slices (CT), or about the last of its X-rays and all that were taken before: what a reader has
    at hand. Others are counted.
    """
    if key == "patient":
        return (
            {headers[0].patient: order_headers(headers, modality, tally)}
            if headers[0].patient in known
            else {}
        )
    if modality == "ct":
        studies: dict[str, list[Header]] = {}
        for header in headers:
            studies.setdefault(getattr(header, key), []).append(header)
        tally.add_files(
            Reason.OTHER_STUDY, (h.path for name in studies.keys() - known for h in studies[name])
        )
        return {name: order_headers(studies[name], modality, tally) for name in studies if name in known}
    ordered = order_headers(headers, modality, tally)
    return up_to_each(ordered, [getattr(h, key) for h in ordered], known, tally)


class InFile(Protocol):
    """An image that lies in a file."""

    @property
    def path(self) -> Path: ...


Placed = TypeVar("Placed", bound=InFile)


def up_to_each(
    ordered: Seq[Placed], visits: Seq[str], known: Set[str], tally: Tally
) -> dict[str, list[Placed]]:
    """One patient's X-rays in order, each with the visit that it is of -> for each visit in `known`, in order
    of their last images, its own and all before; never a later one. Images after the last known are counted.
    """
    last = {visit: i for i, visit in enumerate(visits) if visit in known}
    ends = sorted(last.items(), key=lambda item: item[1])
    after = ordered[ends[-1][1] + 1 :] if ends else ordered
    tally.add_files(Reason.OTHER_STUDY, (image.path for image in after))
    return {visit: list(ordered[: i + 1]) for visit, i in ends}


def order_headers(headers: Seq[Header], modality: str, tally: Tally) -> list[Header]:
    """One patient's images in order, those that belong together (choosing.py). Maybe none.

    X-rays by acquisition time; CT slices by position along the normal. Ties are broken by number and UID, so
    that neither file names nor the order of reading matter.
    """
    images = choose_images(headers, modality, tally)
    if modality == "xray":
        images = on_one_clock(images, tally)
    ordered = sorted(images, key=lambda h: (place(h, modality), h.number or 0.0, h.uid))
    if modality == "ct":
        return check_places(ordered, tally)
    days = Counter(h.time.date() for h in ordered if h.time)
    files = Counter({(h.time, h.number, h.path) for h in ordered})
    alike = Counter((time, number) for time, number, _ in files)
    unsure = [
        h
        for h in ordered
        if (not h.timed and h.time and days[h.time.date()] > 1) or alike[h.time, h.number] > 1
    ]
    tally.add_files(Reason.ORDER_UNSURE, (h.path for h in unsure))
    return ordered


def on_one_clock(images: list[Header], tally: Tally) -> list[Header]:
    """Times of UTC where any image says its offset. One that does not is taken for the zone of the others: of
    the one zone, or, noted, of the one that is nearest in time."""
    zones = [h for h in images if h.offset is not None and h.time]
    if not zones:
        return images

    def nearest(header: Header) -> int:
        assert header.time is not None
        at = header.time
        closest = min(zones, key=lambda h: (abs((h.time or at) - at), h.uid))
        return closest.offset or 0

    if len({h.offset for h in zones}) > 1:
        tally.add_files(Reason.ZONE_UNSURE, (h.path for h in images if h.offset is None))
    return [
        replace(h, offset=0, time=h.time - timedelta(minutes=nearest(h) if h.offset is None else h.offset))
        for h in images
        if h.time
    ]


def place(header: Header, modality: str) -> float:
    """Where a file lies on its patient's axis: days since an arbitrary day (X-ray) or millimetres (CT)."""
    if modality == "ct":
        assert header.position is not None  # read_header refuses a CT slice without one
        return header.position
    assert header.time is not None  # and an X-ray without a date
    return (header.time - datetime.min).total_seconds() / SECONDS_A_DAY


def choose(n: int, max_frames: int, modality: str) -> list[int]:
    """Which of `n` ordered frames to keep: the latest X-rays; CT slices spread evenly, first and last
    included."""
    if n <= max_frames:
        return list(range(n))
    if modality == "xray":
        return list(range(n - max_frames, n))
    return [round(i) for i in np.linspace(0, n - 1, max_frames)] if max_frames > 1 else [n // 2]


def image_of(header: Header, contract: Input) -> DicomPixels:
    """The image that a header is about, as the contract wants it shown."""
    return DicomPixels(header.path, contract.window, header.frame)


def to_frames(ordered: Seq[Header], contract: Input) -> tuple[Frame, ...]:
    """The chosen of one patient's ordered images as frames, placed from the first image on."""
    kept = [ordered[i] for i in choose(len(ordered), contract.max_frames, contract.modality)]
    start = place(ordered[0], contract.modality)
    return tuple(Frame(place(h, contract.modality) - start, image_of(h, contract)) for h in kept)


def sequence_of(
    ordered: Seq[Header], labels: NDArray[np.float32], contract: Input, by: str = "patient"
) -> Sequence:
    """One patient's ordered images as a sequence; what is said of the patient is said of the last image. The
    labels are about the last image's study or accession, or patient (`by`)."""
    last = ordered[-1]
    frames = to_frames(ordered, contract)
    visit = {image_of(h, contract) for h in ordered if getattr(h, by) == getattr(last, by)}
    own = tuple(frame for frame in frames if frame.image in visit)
    return Sequence(last.patient, frames, labels, last.scanner, last.sex, last.age, last.view, own)
