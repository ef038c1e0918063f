"""The audit as one self-contained HTML page."""

import base64
from pathlib import Path

import cv2
import numpy as np

from common.report.template import render
from common.results.attacks import PrivacyAudit
from simulation.attacks.inversion import Pictures
from simulation.attacks.site import Drawing

TEMPLATE = Path(__file__).with_name("attacks.html.j2")
SHOWN = 8
SIDE = 160


def render_page(audit: PrivacyAudit, drawing: Drawing) -> str:
    """From what `audit_site` returns."""
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
    return render(TEMPLATE, audit=audit, rows=rows)


def strip(frames: Pictures) -> str:
    """(T, H, W) standardised frames, the last few side by side, as a PNG in a data: address."""
    grey = ((frames[-SHOWN:] + 2.0) / 4.0).clip(0.0, 1.0) * 255.0
    tiles = [cv2.resize(f.astype(np.uint8), (SIDE, SIDE), interpolation=cv2.INTER_NEAREST) for f in grey]
    picture = np.concatenate([np.pad(tile, 2, constant_values=255) for tile in tiles], axis=1)
    return "data:image/png;base64," + base64.b64encode(cv2.imencode(".png", picture)[1].tobytes()).decode()
