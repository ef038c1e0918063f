"""Whether an image shows the chest.

Witnesses: BodyPartExamined, AnatomicRegionSequence, then words of the procedure's, the study's, the series'
and the protocol's descriptions. One that names the chest is enough (`CHEST ABDOMEN`); where all that decide
name other parts, it shows none. Where they differ, it is used and noted; as it is where words that name a
part are about something else (`head of bed 30`), and no witness is about the body.
"""

import re
from collections.abc import Iterator

from pydicom import Dataset

from client.imaging.facts.text import items, text, values, words

CHEST, OTHER, UNSURE, STRANGE, UNKNOWN = "chest", "other", "unsure", "strange", "unknown"
"""UNSURE: one witness says the chest and one another part, or words may be about neither. STRANGE: a part is
named that is not known here, and nobody names the chest."""
DESCRIPTIONS = (
    "RequestedProcedureDescription", "PerformedProcedureStepDescription", "StudyDescription",
    "SeriesDescription",
    "ProtocolName",
)  # fmt: skip


def body_part_of(ds: Dataset) -> str:
    """One of CHEST, OTHER, UNSURE, STRANGE, UNKNOWN."""
    told = {part for part in _witnesses(ds) if part != UNKNOWN}
    if not told and words(" ".join(values(ds, "BodyPartExamined"))):
        return STRANGE
    firm = told - {UNSURE} or told
    return UNSURE if len(firm) > 1 else next(iter(firm), UNKNOWN)


def _witnesses(ds: Dataset) -> Iterator[str]:
    yield by_words(" ".join(values(ds, "BodyPartExamined")), _TERMS)
    groups = items(ds, "SharedFunctionalGroupsSequence")
    for place in (ds, *(item for group in groups for item in items(group, "FrameAnatomySequence"))):
        for item in items(place, "AnatomicRegionSequence"):
            yield by_words(text(item, "CodeMeaning"))
    for keyword in DESCRIPTIONS:
        yield by_words(text(ds, keyword))


def by_words(said: str, terms: frozenset[str] = frozenset()) -> str:
    """CHEST, OTHER, UNSURE (parts are named in asides alone) or UNKNOWN; `terms` are other parts where
    nothing but a part is named."""
    spoken = _spoken(said)
    if any(word.startswith(_CHEST) or word in _CHEST_WORDS for word in spoken) and not _is_spine(spoken):
        return CHEST
    if _is_other(_spoken(_ASIDE.sub(" ", said.upper())), terms):
        return OTHER
    return UNSURE if _is_other(spoken, terms) else UNKNOWN


def _spoken(said: str) -> list[str]:
    return [part for word in words(said) for part in _parted(word)]


def _is_other(spoken: list[str], terms: frozenset[str]) -> bool:
    return _is_spine(spoken) or any(word in _OTHER_WORDS | terms for word in spoken)


def _parted(word: str) -> list[str]:
    """A defined term in its parts, as BodyPartExamined runs them together (PS3.16 Annex L): ABDOMENPELVIS is
    ABDOMEN, PELVIS, and THORACICSPINE is THORACIC, SPINE. Other words are as they are."""
    match = re.fullmatch(rf"(?:{_PARTS})+", word)
    return re.findall(_PARTS, word) if match else [word]


_PARTS = (
    "ABDOMEN|ABD|PELVIS|PELV|HEAD|NECK|CHEST|THORAX|THORACIC|CERVICAL|LUMBAR|SACRAL|SPINE|TSPINE|LSPINE|CSPINE"
    "|TLSPINE|LSSPINE|SSPINE|CTSPINE|SKULL|BRAIN|FACE|UPPER|LOWER|EXTREMITY|ARM|LEG|FOOT|HAND|HIP|KNEE"
)


def _is_spine(spoken: list[str]) -> bool:
    """`THORACIC SPINE` is no chest; `CHEST AND SPINE` is."""
    return any(w in _SPINE for w in spoken) and not any(
        w in ("CHEST", "THORAX", "LUNG", "LUNGS") for w in spoken
    )


_CHEST = ("CHEST", "THORA", "TORAX", "TORAC", "LUNG", "PULMO", "POUMON", "POLMON", "BRUSTKORB")
_CHEST_WORDS = {"CXR", "THX", "PECHO", "HRCT", "KLATKA", "WHOLEBODY", "RIB", "RIBS", "CTPA", "CTCHEST"}
_SPINE = {
    "SPINE", "TSPINE", "LSPINE", "CSPINE", "TLSPINE", "LSSPINE", "SSPINE", "CTSPINE", "VERTEBRA",
    "VERTEBRAE", "WIRBELSAULE", "BWS", "HWS", "LWS", "RACHIS",
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
    "MAXILLA", "PANCREAS", "BLADDER", "GALLBLADDER", "STOMACH", "SPLEEN", "PROSTATE",
    "UTERUS", "RECTUM", "DUODENUM", "JEJUNUM", "ILEUM", "APPENDIX", "URETER", "URETHRA", "THYROID",
    "LARYNX", "PHARYNX", "CAROTID", "PAROTID",
    "MANO", "PIE", "RODILLA", "HOMBRO", "CRANEO", "CADERA", "ABDOME", "PIEDE", "GINOCCHIO", "SPALLA",
    "CRANIO",
}  # fmt: skip
_TERMS = frozenset({"ARM", "FACE", "EAR", "EYE", "TONGUE", "TMJ", "ZYGOMA", "SELLA", "IAC"})
"""In a description FACE is a frontal view, in French, and ARM a fluoroscope's."""
_ASIDES = (
    "HEAD OF BED", "HEAD OF THE BED", "HEAD UP", "HEAD DOWN", "HEAD RAISED", "HEAD ELEVATED", "HEAD FIRST",
    "NECK EXTENDED", "NECK FLEXED", "NECK TURNED", "NECK COLLAR", "NECK BRACE", "NECK LINE",
    "HANDS UP", "HANDS DOWN", "HANDS ON HIPS", "FEET FIRST", "[0-9]+ FEET", "[0-9]+ FOOT",
    "MAIN X RAY", "MAIN XRAY", "MAIN ROOM", "MAIN HOSPITAL", "MAIN CAMPUS", "MAIN BUILDING", "MAIN RADIOLOGY",
    "MAIN DEPT", "MAIN DEPARTMENT", "MAIN ER", "MAIN ED", "AP DE PIE", "PA DE PIE",
)  # fmt: skip
"""How somebody lies or stands (in Spanish, on foot), how far away (in feet), and where."""
_ASIDE = re.compile(rf"\b(?:{'|'.join(_ASIDES)})\b".replace(" ", r"\W*"))
