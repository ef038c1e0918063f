"""Which of a patient's images make the sequence: frontal X-rays of the chest, one an exposure; one axial
stack of CT slices."""

from collections import Counter
from collections.abc import Sequence as Seq
from pathlib import Path

import numpy as np

from client.imaging import stacks
from client.imaging.dicom import Header
from client.imaging.facts import body_part
from client.imaging.facts.image_kind import Kind
from client.imaging.outcome import Reason, Tally

SAME_PLACE_MM = 0.01
GAP = 1.5
"""Slices further apart than so many times the series' usual distance have one missing between them."""


def choose_images(headers: Seq[Header], modality: str, tally: Tally) -> list[Header]:
    """The images of one patient that belong together, in no order; each SOP instance once, of several copies
    the largest file: one may have been cut off. Maybe none."""
    copies = sorted(headers, key=lambda h: str(h.path), reverse=True)
    n_copies = Counter(header.uid for header in copies)
    copies.sort(key=lambda h: _size(h.path) if n_copies[h.uid] > 1 else 0)
    images = list({header.uid: header for header in copies}.values())
    tally.add_files(Reason.DUPLICATE, _paths(headers, without=images))
    images = _left(images, [h for h in images if h.body != body_part.OTHER], Reason.NOT_CHEST, tally)
    kept = _one_stack(images, tally) if modality == "ct" else _frontal(images, tally)
    for header in kept:
        for doubt in header.doubts:
            tally.add_files(Reason[doubt], [header.path])
    return kept


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _left(images: Seq[Header], kept: list[Header], reason: Reason, tally: Tally) -> list[Header]:
    """`kept`; the others are counted."""
    tally.add_files(reason, _paths(images, without=kept))
    return kept


def _paths(images: Seq[Header], without: Seq[Header]) -> list[Path]:
    kept = {id(h) for h in without}
    return [h.path for h in images if id(h) not in kept]


def _frontal(images: list[Header], tally: Tally) -> list[Header]:
    """All but raw images, captures beside originals, lateral and oblique views, and second images of one
    exposure. An image that does not say its view is taken for frontal, and noted."""
    images = _left(images, [h for h in images if h.kind != Kind.RAW], Reason.RAW, tally)
    images = _originals(images, tally)
    images = _left(images, [h for h in images if h.view != "other"], Reason.NOT_FRONTAL, tally)
    kept = _left(images, _one_an_exposure(images), Reason.SAME_EXPOSURE, tally)
    tally.add_files(Reason.VIEW_UNKNOWN, (h.path for h in kept if h.view == "unknown"))
    return kept


def _originals(images: list[Header], tally: Tally) -> list[Header]:
    """Without captures and projections; a patient who has nothing else keeps the captures, noted."""
    originals = [h for h in images if h.kind >= Kind.DERIVED]
    if originals:
        return _left(images, originals, Reason.CAPTURE, tally)
    captures = _left(images, [h for h in images if h.kind == Kind.CAPTURE], Reason.CAPTURE, tally)
    tally.add_files(Reason.CAPTURE_USED, (h.path for h in captures))
    return captures


def _one_an_exposure(images: list[Header]) -> list[Header]:
    """Of files that show one exposure the one closest to it, then the first by number and UID; all frames of
    that file."""
    best: dict[str, Header] = {}
    for h in sorted(images, key=lambda h: (-h.kind, h.number or 0.0, h.uid)):
        best.setdefault(h.exposure, h)
    return [h for h in images if not h.exposure or best[h.exposure].path == h.path]


def _one_stack(images: list[Header], tally: Tally) -> list[Header]:
    """One axial volume (stacks.py)."""
    slices = _left(images, [h for h in images if h.kind >= Kind.DERIVED], Reason.NOT_A_SLICE, tally)
    axial = _left(slices, [h for h in slices if stacks.is_axial(h)], Reason.NOT_AXIAL, tally)
    candidates = stacks.volumes(axial)
    if not candidates:
        return []
    chosen = max(candidates, key=stacks.score(candidates))
    placed = _left(chosen, stacks.placed_alike(chosen), Reason.NO_POSITION, tally)
    _left(axial, chosen, Reason.OTHER_SERIES, tally)
    return placed


def check_places(ordered: list[Header], tally: Tally) -> list[Header]:
    """CT slices in order, each place once; places taken from less than the geometry, and gaps, are noted."""
    kept = ordered[:1]
    for header in ordered[1:]:
        assert header.position is not None
        assert kept[-1].position is not None
        if header.position - kept[-1].position >= SAME_PLACE_MM:
            kept.append(header)
    tally.add_files(Reason.SAME_PLACE, _paths(ordered, without=kept))
    tally.add_files(Reason.PLACED_BY_NUMBER, (h.path for h in kept if h.placed_by != "geometry"))
    distances = np.diff([h.position for h in kept if h.position is not None])
    tally.add(Reason.SLICES_MISSING, int(len(distances) > 1 and distances.max() > GAP * np.median(distances)))
    return kept
