"""Frames with heat over them: the montage, and the pictures of the page."""

import base64

import cv2
import numpy as np
from numpy.typing import NDArray

from client.imaging.facts.side import LEFT, UNKNOWN
from client.prediction.explain.case import Explained, short
from common.handover import RESEARCH_USE

TILE, MARGIN = 224, 6
Picture = NDArray[np.uint8]
METHODS = ("occlusion", "integrated gradients", "Grad-CAM")


def heat_of(explained: Explained, method: str, frame: int) -> NDArray[np.float32]:
    """(H, W) in [0, 1] of one frame: scaled by the largest value in the whole sequence, so that frames can be
    compared."""
    maps = {
        "occlusion": explained.where.occlusion.expand(len(explained.case.pixels), -1, -1),
        "integrated gradients": explained.where.integrated,
        "Grad-CAM": explained.where.grad_cam,
    }[method].numpy()
    top = float(maps.max())
    heat: NDArray[np.float32] = (maps[frame] / top if top > 0 else maps[frame]).astype(np.float32)
    return heat


def grey(explained: Explained, frame: int, side: int = TILE) -> Picture:
    """(side, side, 3) BGR; R stands at the patient's right, where the file says which side that is."""
    pixels = explained.case.pixels[frame]
    eight = (pixels.astype(np.float32) * (255 / np.iinfo(pixels.dtype).max)).astype(np.uint8)
    picture = np.asarray(
        cv2.cvtColor(cv2.resize(eight, (side, side), interpolation=cv2.INTER_CUBIC), cv2.COLOR_GRAY2BGR),
        np.uint8,
    )
    if explained.case.headers:
        _mark(picture, explained.case.headers[frame].right_at)
    return picture


def _mark(picture: Picture, right_at: str) -> None:
    """R and L at the edges, light with a dark rim."""
    if right_at == UNKNOWN:
        return
    side, size = picture.shape[1], picture.shape[1] / 400
    letters = "RL" if right_at == LEFT else "LR"
    for letter, left in zip(letters, (0.02, 0.98 - 0.05), strict=True):
        place = (int(left * side), int(0.09 * side))
        for colour, thickness in (((0, 0, 0), 4), ((255, 255, 255), 1)):
            cv2.putText(
                picture, letter, place, cv2.FONT_HERSHEY_SIMPLEX, size, colour, thickness, cv2.LINE_AA
            )


def overlay(explained: Explained, method: str, frame: int, side: int = TILE) -> Picture:
    """(side, side, 3) BGR: the frame, and heat over it that is clear where it is low."""
    heat = cv2.resize(heat_of(explained, method, frame), (side, side), interpolation=cv2.INTER_CUBIC).clip(
        0, 1
    )
    colour = cv2.applyColorMap((heat * 255).astype(np.uint8), cv2.COLORMAP_INFERNO).astype(np.float32)
    cover = (0.75 * np.sqrt(heat))[..., None]
    return np.asarray((1 - cover) * grey(explained, frame, side) + cover * colour, np.uint8)


def colours() -> Picture:
    """(12, 256, 3) BGR: the scale of `overlay`, from nothing to the most in the sequence."""
    ramp = np.tile(np.arange(256, dtype=np.uint8), (12, 1))
    return np.asarray(cv2.applyColorMap(ramp, cv2.COLORMAP_INFERNO), np.uint8)


def montage(explained: Explained) -> bytes:
    """PNG: a column a visit, a row for the frame and one for each method; the turning visit is framed."""
    n = len(explained.case.pixels)
    rows = [[grey(explained, t) for t in range(n)]] + [
        [overlay(explained, m, t) for t in range(n)] for m in METHODS
    ]
    head, foot = 30, 44
    width = n * (TILE + MARGIN) + MARGIN
    canvas = np.full((head + len(rows) * (TILE + MARGIN) + foot, width, 3), 255, np.uint8)
    for i, row in enumerate(rows):
        for t, tile in enumerate(row):
            top, left = head + i * (TILE + MARGIN), MARGIN + t * (TILE + MARGIN)
            canvas[top : top + TILE, left : left + TILE] = tile
            if t == explained.turning and n > 1:
                cv2.rectangle(
                    canvas, (left - 2, top - 2), (left + TILE + 1, top + TILE + 1), (153, 110, 11), 2
                )
    for t in range(n):
        _write(
            canvas,
            f"{explained.case.positions[t]:.0f}  {float(explained.when.running[t]):+.1f}",
            MARGIN + t * (TILE + MARGIN),
            20,
        )
    said = f"{drawn(explained.finding)} {explained.probability:.3f}: bright {explained.side} it"
    _write(canvas, said, MARGIN, canvas.shape[0] - 27)
    _write(canvas, RESEARCH_USE, MARGIN, canvas.shape[0] - 9)
    return cv2.imencode(".png", canvas)[1].tobytes()


def drawn(finding: str) -> str:
    """As it can be drawn: the font has plain letters alone, and would write ? for all others."""
    return finding if finding.isascii() else short(finding)


def _write(canvas: Picture, text: str, left: int, bottom: int) -> None:
    cv2.putText(canvas, text, (left, bottom), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (60, 60, 60), 1, cv2.LINE_AA)


def data_address(picture: Picture) -> str:
    """A picture as a data: address."""
    return "data:image/png;base64," + base64.b64encode(cv2.imencode(".png", picture)[1].tobytes()).decode()
