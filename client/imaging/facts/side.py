"""On which side of an image the patient's right is.

Witnesses: PatientOrientation (PS3.3 C.7.6.1.1.1: where the rows run to) and ImageOrientationPatient (their
direction in a system whose x runs to the patient's left). If they contradict each other nobody knows.
"""

from pydicom import Dataset

from client.imaging.facts.text import values

LEFT, RIGHT, UNKNOWN = "left", "right", "unknown"
STEEPEST = 0.8
"""Cosine of the angle up to which rows still run from side to side."""


def right_of(ds: Dataset) -> str:
    """One of LEFT, RIGHT, UNKNOWN: the edge of the image at which the patient's right is."""
    told = {by_rows(values(ds, "PatientOrientation")), by_direction(values(ds, "ImageOrientationPatient"))}
    told.discard(UNKNOWN)
    return told.pop() if len(told) == 1 else UNKNOWN


def by_rows(directions: list[str]) -> str:
    """Rows that run to the patient's left begin at the right."""
    return {"L": LEFT, "R": RIGHT}.get(directions[0][:1], UNKNOWN) if len(directions) == 2 else UNKNOWN


def by_direction(cosines: list[str]) -> str:
    """Six cosines, of which the first is that of the rows along x."""
    try:
        x = float(cosines[0]) if len(cosines) == 6 else 0.0
    except ValueError:
        return UNKNOWN
    return LEFT if x >= STEEPEST else RIGHT if x <= -STEEPEST else UNKNOWN
