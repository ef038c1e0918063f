"""From which side an X-ray was taken.

Witnesses: ViewPosition, ViewCodeSequence, PatientOrientation, then words of the series' description and
protocol. The first that decides counts; that a later one says otherwise is noted.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from pydicom import Dataset
from pydicom.sr._concepts_dict import concepts

from client.imaging.facts.text import items, text, values, words

FRONTAL, OTHER, UNKNOWN = "frontal", "other", "unknown"


@dataclass(frozen=True)
class View:
    """One of FRONTAL, OTHER, UNKNOWN."""

    name: str
    agreed: bool  # no witness says otherwise


def view_of(ds: Dataset) -> View:
    """By the first witness that decides; UNKNOWN if none does."""
    told = [view for view in _witnesses(ds) if view != UNKNOWN]
    return View(told[0] if told else UNKNOWN, agreed=len(set(told)) < 2)


def _witnesses(ds: Dataset) -> Iterator[str]:
    yield by_words(" ".join(values(ds, "ViewPosition")))
    for item in items(ds, "ViewCodeSequence"):
        yield by_words(text(item, "CodeMeaning") or _MEANINGS.get(text(item, "CodeValue"), ""))
    yield by_orientation(values(ds, "PatientOrientation"))
    for keyword in ("SeriesDescription", "ProtocolName", "AcquisitionDeviceProcessingDescription"):
        yield by_words(text(ds, keyword))


def by_words(said: str) -> str:
    """Words decide if they speak of one view alone: `PA LAT` names two."""
    spoken = words(said)
    if any(word.startswith("OBLI") for word in spoken):
        return OTHER
    other = any(word in _OTHER_WORDS or word.startswith(("LATER", "SEITLICH")) for word in spoken)
    frontal = bool(_FRONTAL_WORDS & set(spoken)) or any(pair <= set(spoken) for pair in _FRONTAL_PAIRS)
    if frontal == other:
        return UNKNOWN
    return FRONTAL if frontal else OTHER


def by_orientation(directions: list[str]) -> str:
    """PatientOrientation (PS3.3 C.7.6.1.1.1): where rows and columns run to, by their first letter. A frontal
    image runs left or right and to head or feet."""
    if len(directions) != 2 or not all(directions):
        return UNKNOWN
    ends = {direction[0] for direction in directions}
    if ends & {"A", "P"} and ends & {"H", "F", "L", "R"}:
        return OTHER
    return FRONTAL if ends & {"L", "R"} and ends & {"H", "F"} else UNKNOWN


_FRONTAL_WORDS = {
    "PA", "AP", "FRONTAL", "POSTEROANTERIOR", "ANTEROPOSTERIOR", "DV", "VD", "FACE", "FRENTE", "FRONT",
}  # fmt: skip
_FRONTAL_PAIRS = ({"POSTERO", "ANTERIOR"}, {"ANTERO", "POSTERIOR"})
_OTHER_WORDS = {
    "LL", "RL", "LLD", "RLD", "LLO", "RLO", "LAT", "LLAT", "RLAT", "LLATERAL", "RLATERAL", "LAO", "RAO",
    "LPO", "RPO",
    "OBL", "SEITL", "PROFIL", "PERFIL", "PROFILO", "SCHRAG", "DECUB", "DECUBITUS", "TANGENTIAL",
    "MEDIOLATERAL",
    "LATEROMEDIAL", "LATEROLATERAL", "SWIMMER", "SWIMMERS",
}  # fmt: skip
_MEANINGS = {
    code: str(meaning)
    for named in cast("dict[str, dict[str, tuple[str, list[int]]]]", concepts["SCT"]).values()
    for code, (meaning, contexts) in named.items()
    if 4010 in contexts
} | {
    "R-10206": "antero-posterior",
    "R-10214": "postero-anterior",
    "R-10232": "right lateral",
    "R-10236": "left lateral",
}
"""Codes of context group 4010 (DX View), for items without a meaning."""
