"""Whether an image shows the chest.

Witnesses: BodyPartExamined, AnatomicRegionSequence, then words of the procedure's, the study's, the series'
and the protocol's descriptions. One that names the chest is enough (`CHEST ABDOMEN`); where all that decide
name other parts, it shows none. Where they differ, it is used and noted.
"""

from collections.abc import Iterator

from pydicom import Dataset

from client.imaging.facts.text import items, text, values, words

CHEST, OTHER, UNSURE, UNKNOWN = "chest", "other", "unsure", "unknown"
"""UNSURE: one witness says the chest and one another part."""
DESCRIPTIONS = (
    "RequestedProcedureDescription", "PerformedProcedureStepDescription", "StudyDescription",
    "SeriesDescription",
    "ProtocolName",
)  # fmt: skip


def body_part_of(ds: Dataset) -> str:
    """One of CHEST, OTHER, UNSURE, UNKNOWN."""
    told = {part for part in _witnesses(ds) if part != UNKNOWN}
    return UNSURE if len(told) > 1 else next(iter(told), UNKNOWN)


def _witnesses(ds: Dataset) -> Iterator[str]:
    yield by_words(" ".join(values(ds, "BodyPartExamined")))
    groups = items(ds, "SharedFunctionalGroupsSequence")
    for place in (ds, *(item for group in groups for item in items(group, "FrameAnatomySequence"))):
        for item in items(place, "AnatomicRegionSequence"):
            yield by_words(text(item, "CodeMeaning"))
    for keyword in DESCRIPTIONS:
        yield by_words(text(ds, keyword))


def by_words(said: str) -> str:
    """CHEST, OTHER or UNKNOWN."""
    spoken = words(said)
    if any(word.startswith(_CHEST) or word in _CHEST_WORDS for word in spoken) and not _is_spine(spoken):
        return CHEST
    return OTHER if _is_spine(spoken) or any(word in _OTHER_WORDS for word in spoken) else UNKNOWN


def _is_spine(spoken: list[str]) -> bool:
    """`THORACIC SPINE` is no chest; `CHEST AND SPINE` is."""
    return any(w in _SPINE for w in spoken) and not any(
        w in ("CHEST", "THORAX", "LUNG", "LUNGS") for w in spoken
    )


_CHEST = ("CHEST", "THORA", "TORAX", "TORAC", "LUNG", "PULMO", "POUMON", "POLMON", "BRUSTKORB")
_CHEST_WORDS = {"CXR", "THX", "PECHO", "HRCT", "KLATKA", "WHOLEBODY", "RIB", "RIBS", "CTPA", "CTCHEST"}
_SPINE = {
    "SPINE", "TSPINE", "LSPINE", "CSPINE", "TLSPINE", "VERTEBRA", "VERTEBRAE", "WIRBELSAULE", "BWS",
    "HWS", "LWS", "RACHIS",
    "COLUMNA", "COLONNA",
}  # fmt: skip
_OTHER_WORDS = {
    "HAND", "HANDS", "WRIST", "FINGER", "FINGERS", "THUMB", "FOREARM", "ELBOW", "HUMERUS", "SHOULDER",
    "CLAVICLE", "SCAPULA",
    "FOOT", "FEET", "TOE", "TOES", "HEEL", "CALCANEUS", "ANKLE", "LEG", "TIBIA", "FIBULA", "KNEE",
    "KNEES", "PATELLA", "FEMUR",
    "THIGH", "HIP", "HIPS", "PELVIS", "SACRUM", "COCCYX", "ABDOMEN", "ABDOMINAL", "ABD", "KUB", "BOWEL",
    "LIVER", "KIDNEY", "HEAD",
    "SKULL", "BRAIN", "NECK", "ORBIT", "ORBITS", "SINUS", "SINUSES", "MANDIBLE", "JAW", "DENTAL",
    "TEETH", "BREAST", "EXTREMITY",
    "ULNA", "RADIUS", "CRANIUM", "FACIAL", "NASAL", "ESOPHAGUS", "COLON",
    "HANDGELENK", "FUSS", "KNIE", "SCHULTER", "BECKEN", "SCHADEL", "HUFTE", "ELLENBOGEN", "KOPF",
    "MAIN", "PIED", "GENOU", "EPAULE", "BASSIN", "CRANE", "HANCHE", "POIGNET", "CHEVILLE",
    "MANO", "PIE", "RODILLA", "HOMBRO", "CRANEO", "CADERA", "ABDOME", "PIEDE", "GINOCCHIO", "SPALLA",
    "CRANIO",
}  # fmt: skip
