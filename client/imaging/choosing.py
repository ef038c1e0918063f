"""Which of a patient's images make the sequence: frontal X-rays; the one CT series that covers the chest
best."""

from collections.abc import Sequence as Seq
from pathlib import Path

import numpy as np

from client.imaging.dicom import PLACED_BY, Header
from client.imaging.outcome import Reason, Tally

SAME_PLACE_MM = 0.01
GAP = 1.5
"""Slices further apart than so many times the series' usual distance have one missing between them."""


def choose_images(headers: Seq[Header], modality: str, tally: Tally) -> list[Header]:
    """The images of one patient that belong together, in no order; each SOP instance once. Maybe none."""
    images = list(
        {header.uid: header for header in sorted(headers, key=lambda h: str(h.path), reverse=True)}.values()
    )
    tally.add_files(Reason.DUPLICATE, _paths(headers, without=images))
    return _one_series(images, tally) if modality == "ct" else _frontal(images, tally)


def _paths(images: Seq[Header], without: Seq[Header]) -> list[Path]:
    kept = {id(h) for h in without}
    return [h.path for h in images if id(h) not in kept]


def _frontal(images: list[Header], tally: Tally) -> list[Header]:
    """All but lateral and oblique views. An image that does not say is taken for frontal, and noted."""
    kept = [h for h in images if h.view != "other"]
    tally.add_files(Reason.NOT_FRONTAL, _paths(images, without=kept))
    tally.add_files(Reason.VIEW_UNKNOWN, (h.path for h in kept if h.view == "unknown"))
    return kept


def _one_series(images: list[Header], tally: Tally) -> list[Header]:
    """Of the series without localisers, derived images and captures: the most slices, then the thinner, then
    the newest UID."""
    slices = [h for h in images if not h.derived]
    tally.add_files(Reason.NOT_A_SLICE, _paths(images, without=slices))
    if not slices:
        return []
    by_series: dict[str, list[Header]] = {}
    for h in slices:
        by_series.setdefault(h.series, []).append(h)

    def worth(uid: str) -> tuple[int, float, str]:
        thickness = [h.thickness for h in by_series[uid] if h.thickness is not None]
        return (
            len({h.position for h in by_series[uid]}),
            -float(np.median(thickness)) if thickness else -np.inf,
            uid,
        )

    chosen = by_series[max(by_series, key=worth)]
    tally.add_files(Reason.OTHER_SERIES, _paths(slices, without=chosen))
    surest = min((h.placed_by for h in chosen), key=PLACED_BY.index)
    alike = [
        h for h in chosen if h.placed_by == surest
    ]  # millimetres of different origins cannot be compared
    tally.add_files(Reason.NO_POSITION, _paths(chosen, without=alike))
    return alike


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
