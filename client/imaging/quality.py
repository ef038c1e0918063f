"""What a cohort is like, before anything trains on it: for the hospital's own eyes, as a page and as JSON.

No identifier is in it, not even a pseudonym; but the page shows patients' images, and small counts: it stays
at the site.
"""

import base64
import hashlib
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment, StrictUndefined
from numpy.typing import NDArray

from client.imaging.cohort import Cohort
from client.imaging.outcome import NOTES, PATIENT_REASONS, Reason
from common.plan import Plan

TEMPLATE = Path(__file__).with_name("quality.html.j2")
SHOWN, FRAMES_SHOWN, TILE = 12, 8, 96


def describe(cohort: Cohort, plan: Plan) -> dict[str, Any]:
    """Counts and distributions of a cohort; undefined numbers are None."""
    gaps = np.concatenate([cohort.gaps(i)[1:] for i in range(len(cohort))]) if len(cohort) else np.zeros(0)
    split = cohort.split(plan.split)
    return {
        "patients": len(set(cohort.patients)),
        "sequences": len(cohort),
        "images": int(cohort.lengths.sum()),
        "split": {part: cohort.count_patients(indices) for part, indices in split.items()},
        "in_two_splits": _in_two_splits(cohort, split),
        "lengths": _five_numbers(cohort.lengths),
        "gaps": _five_numbers(gaps),
        "gap_unit": "mm" if plan.input.modality == "ct" else "days",
        "scanners": dict(Counter(cohort.scanners.tolist()).most_common()),
        "findings": {finding: _labels(cohort.labels[:, k]) for k, finding in enumerate(cohort.findings)},
        "same_pixels_under_two_patients": count_shared_images(cohort),
        "blank_images": _count_blank(cohort),
        "left_out": _reasons(cohort, lambda r: r not in NOTES),
        "removed": cohort.removed,
        "fingerprint": cohort.fingerprint,
        "notes": _reasons(cohort, lambda r: r in NOTES),
    }


def _five_numbers(values: NDArray[Any]) -> dict[str, float] | None:
    if not len(values):
        return None
    names = ("min", "q1", "median", "q3", "max")
    return {name: float(q) for name, q in zip(names, np.quantile(values, np.linspace(0, 1, 5)), strict=True)}


def _labels(labels: NDArray[np.float32]) -> dict[str, Any]:
    positive, negative = int((labels == 1).sum()), int((labels == 0).sum())
    known = positive + negative
    prevalence = positive / known if known else None
    return {
        "positive": positive,
        "negative": negative,
        "unknown": len(labels) - known,
        "prevalence": prevalence,
    }


def _in_two_splits(cohort: Cohort, split: dict[str, NDArray[np.intp]]) -> int:
    """Patients on both sides of a split. Zero by construction, and counted all the same."""
    parts = Counter(
        patient for indices in split.values() for patient in set(cohort.patients[indices].tolist())
    )
    return sum(n > 1 for n in parts.values())


def count_shared_images(cohort: Cohort) -> int:
    """Images whose very pixels belong to more than one patient: mixed-up identities, or a test image."""
    owners: dict[bytes, set[str]] = defaultdict(set)
    for i in range(len(cohort)):
        for frame in cohort.frames(i):
            owners[hashlib.sha256(frame.tobytes()).digest()].add(str(cohort.patients[i]))
    return sum(len(patients) > 1 for patients in owners.values())


def _count_blank(cohort: Cohort) -> int:
    """Images of one grey value."""
    return sum(int(frame.min() == frame.max()) for i in range(len(cohort)) for frame in cohort.frames(i))


def _reasons(cohort: Cohort, wanted: Any) -> list[dict[str, Any]]:
    return [
        {
            "reason": r.name.lower(),
            "words": r.value,
            "count": n,
            "of": "patients" if r in PATIENT_REASONS else "files",
        }
        for r in Reason
        if wanted(r) and (n := cohort.tally.counts[r])
    ]


def render_page(about: dict[str, Any], cohort: Cohort, name: str, seed: int = 0) -> str:
    """One self-contained page with a contact sheet of sequences chosen at random by `seed`."""
    chosen = np.random.default_rng(seed).permutation(len(cohort))[:SHOWN]
    sheet = [(_strip(cohort, int(i)), int(cohort.lengths[i])) for i in chosen]
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = lambda value: "n/a" if value is None else f"{value:.3g}"
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        about=about, sheet=sheet, name=name
    )


def _strip(cohort: Cohort, i: int) -> str:
    """The last frames of a sequence side by side, as a PNG in a data: address."""
    frames = cohort.frames(i)[-FRAMES_SHOWN:]
    grey = frames.astype(np.float32) * (255 / np.iinfo(frames.dtype).max)
    tiles = [cv2.resize(f.astype(np.uint8), (TILE, TILE), interpolation=cv2.INTER_AREA) for f in grey]
    picture = np.concatenate([np.pad(tile, 1, constant_values=255) for tile in tiles], axis=1)
    return "data:image/png;base64," + base64.b64encode(cv2.imencode(".png", picture)[1].tobytes()).decode()
