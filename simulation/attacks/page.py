"""The audit as one self-contained HTML page."""

import base64
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment, StrictUndefined

from simulation.attacks.inversion import Pictures
from simulation.attacks.site import Drawing

TEMPLATE = Path(__file__).with_name("attacks.html.j2")
SHOWN = 8
SIDE = 160


def render_page(found: dict[str, Any], drawing: Drawing) -> str:
    """From what `audit_site` returns; undefined numbers as None."""
    rows: list[tuple[str, str, float | None]] = [
        ("the patient, as the model sees the images", strip(drawing.truth), None),
        ("drawn from an update without privacy", strip(drawing.plain.frames), drawing.plain.likeness),
    ]
    if drawing.private is not None:
        rows.append(
            (
                "drawn from the same update with privacy",
                strip(drawing.private.frames),
                drawing.private.likeness,
            )
        )
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = lambda value: "n/a" if value is None else f"{value:.3f}"
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(found=found, rows=rows)


def strip(frames: Pictures) -> str:
    """(T, H, W) standardised frames, the last few side by side, as a PNG in a data: address."""
    grey = ((frames[-SHOWN:] + 2.0) / 4.0).clip(0.0, 1.0) * 255.0
    tiles = [cv2.resize(f.astype(np.uint8), (SIDE, SIDE), interpolation=cv2.INTER_NEAREST) for f in grey]
    picture = np.concatenate([np.pad(tile, 2, constant_values=255) for tile in tiles], axis=1)
    return "data:image/png;base64," + base64.b64encode(cv2.imencode(".png", picture)[1].tobytes()).decode()
