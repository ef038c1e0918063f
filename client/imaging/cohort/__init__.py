"""The cohort: sequences decoded once, windowed and resized, on disk; opened in milliseconds by
memory-mapping.

A cohort folder holds `frames.bin` (frames one after another, uint8 or uint16), `frames.arrow` (the gap before
each, and a keyed hash of the file it came from), `sequences.arrow` (pseudonym, first frame, number of frames,
labels, attributes) and `cohort.json` (contract, counts, fingerprint). Sequences of one patient share frames.
It is written beside its place and renamed into it, so it is whole or not there; frames whose file did not
change are taken over from the cohort before.
"""

import importlib
from typing import TYPE_CHECKING

from client.imaging.cohort.reading import Cohort, is_cohort, pseudonym, require_trainable, split_position

if TYPE_CHECKING:
    from client.imaging.cohort.building import build_cohort, is_current, remove_patient, stamp_of

__all__ = [
    "Cohort",
    "build_cohort",
    "is_cohort",
    "is_current",
    "pseudonym",
    "remove_patient",
    "require_trainable",
    "split_position",
    "stamp_of",
]


def __getattr__(name: str) -> object:
    """What builds a cohort, once it is asked for: it brings pydicom, two seconds that training is spared."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("client.imaging.cohort.building"), name)
