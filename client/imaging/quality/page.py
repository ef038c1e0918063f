"""The page: numbers, grey values by scanner, and a contact sheet of what is to be looked at."""

import base64
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from client.imaging.cohort import Cohort
from client.imaging.quality.facts import Doubt, Quality
from common.arrays import Pixels
from common.plan import Input
from common.report import charts
from common.report.template import render

TEMPLATE = Path(__file__).with_name("page.html.j2")
SHOWN, FRAMES_SHOWN, TILE = 12, 8, 96
ON_A_SHEET, SCANNERS_SHOWN = 24, 8


def render_page(
    quality: Quality, cohort: Cohort, name: str, seed: int = 0, doubts: Sequence[Doubt] | None = None
) -> str:
    """One self-contained page, with sequences chosen at random by `seed` as well; `doubts` are those of a
    model, None if none was asked."""
    chosen = np.random.default_rng(seed).permutation(len(cohort))[:SHOWN]
    scanners = dict(list(quality.greys.items())[:SCANNERS_SHOWN])
    return render(
        TEMPLATE,
        about=quality,
        name=name,
        contract=_in_words(cohort.contract),
        sheet=[_sequence(cohort, i) for i in map(int, chosen)],
        doubted=doubts and [_doubted(cohort, doubt) for doubt in doubts],
        asked=doubts is not None,
        noted={row.reason: _sheet(cohort, row.reason) for row in quality.notes},
        greys=Markup(charts.greys({s: one.histogram for s, one in scanners.items()})),  # noqa: S704 - our own
    )


def _sequence(cohort: Cohort, i: int) -> tuple[str, str]:
    return _strip(list(cohort.frames(i)[-FRAMES_SHOWN:])), f"sequence {i + 1}: {_caption(cohort, i)}"


def _doubted(cohort: Cohort, doubt: Doubt) -> tuple[str, str]:
    picture, caption = _sequence(cohort, doubt.sequence)
    of = "" if doubt.part == "unknown" else f"; a {doubt.part} patient of the model's run"
    return picture, f"{caption}. The model: {doubt.finding} {doubt.probability:.3f}{of}"


def _in_words(contract: Input) -> str:
    """What every hospital's images are brought to."""
    window = contract.window
    ends = f"window {window.center:g} ± {window.width / 2:g}" if window else "the files' own windows"
    return f"{contract.modality}, {contract.size} x {contract.size} pixels of {contract.depth} bits, {ends}"


def _sheet(cohort: Cohort, note: str) -> list[tuple[str, str]]:
    """Pictures of images that carry a note, evenly over the cohort, each with its label and place."""
    having = [(i, t) for i in range(len(cohort)) for t, notes in enumerate(cohort.notes(i)) if note in notes]
    step = max(1.0, len(having) / ON_A_SHEET)
    some = [having[int(k * step)] for k in range(min(ON_A_SHEET, len(having)))]
    return [(_strip([cohort.frames(i)[t]]), f"image {t + 1} of {_caption(cohort, i)}") for i, t in some]


def _caption(cohort: Cohort, i: int) -> str:
    known = {1.0: "yes", 0.0: "no"}
    told = [
        f"{f}: {known.get(float(v), 'not known')}"
        for f, v in zip(cohort.findings, cohort.labels[i], strict=True)
    ]
    n = int(cohort.lengths[i])
    return f"{n} image{'s' if n > 1 else ''}; {', '.join(told)}"


def _strip(frames: list[Pixels]) -> str:
    """Frames side by side, as a PNG in a data: address."""
    tiles = [np.pad(_tile(frame), 1, constant_values=255) for frame in frames]
    picture = np.concatenate(tiles, axis=1)
    return "data:image/png;base64," + base64.b64encode(cv2.imencode(".png", picture)[1].tobytes()).decode()


def _tile(frame: Pixels) -> NDArray[np.uint8]:
    grey = frame.astype(np.float32) * (255 / np.iinfo(frame.dtype).max)
    return np.asarray(cv2.resize(grey.astype(np.uint8), (TILE, TILE), interpolation=cv2.INTER_AREA), np.uint8)
