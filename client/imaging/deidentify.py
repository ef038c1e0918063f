"""De-identification at the door: what identifies a patient is counted for the report and left behind; a scan
proves it."""

import contextlib
import json
import re
from collections.abc import Iterable
from pathlib import Path

from dicomanonymizer.dicom_anonymization_databases.dicomfields_2026c import ALL_TAGS
from pyarrow import feather
from pydicom import Dataset
from pydicom.datadict import keyword_for_tag
from pydicom.tag import Tag

from client.imaging.facts.text import text
from common.attributes import OUR_WORDS

IDENTIFYING = frozenset(Tag(*tag) for tag in ALL_TAGS if len(tag) == 2)
"""Attributes that the Basic Application Level Confidentiality Profile removes or replaces (PS3.15 table
E.1-1)."""
NAMING = (
    "PatientName", "PatientID", "OtherPatientIDs", "PatientBirthDate", "PatientAddress",
    "PatientTelephoneNumbers",
    "AccessionNumber", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID",
)  # fmt: skip
"""Attributes whose values the finished cohort is searched for."""
PRIVATE = "private attributes"
SHORTEST = 4
"""A shorter value is in any text by chance."""


def removed_from(ds: Dataset) -> tuple[str, ...]:
    """Keywords of the identifying attributes that a file fills in, and PRIVATE if it has any of a vendor's
    own."""
    filled = {Tag(tag) for tag in ds.keys() if ds.get_item(tag).value}  # noqa: SIM118 - a Dataset iterates over values
    keywords = sorted(keyword_for_tag(tag) or str(tag) for tag in filled & IDENTIFYING)
    return (*keywords, PRIVATE) if any(tag.is_private for tag in filled) else tuple(keywords)


def identifiers_in(ds: Dataset) -> frozenset[str]:
    """Values by which a file's patient or study could be known again, in lower case."""
    places: set[str] = set()
    for keyword in NAMING:
        with contextlib.suppress(Exception):  # an odd value raises on access, and is nobody's name
            places.add(text(ds, keyword).lower())
    return frozenset(place for place in places if len(place) >= SHORTEST)


def without_identifiers(said: str, identifiers: Iterable[str]) -> str:
    """`said`, or "unknown" if one of `identifiers` is in it."""
    return "unknown" if any(identifier in said.lower() for identifier in identifiers) else said


def scan(folder: Path, identifiers: Iterable[str]) -> list[str]:
    """Where in a finished cohort one of the `identifiers` (lower case) stands; the place, not the value.
    Empty if nowhere.

    Every text of the tables and every value in cohort.json is searched. Hexadecimal digits, in which a short
    number may be by chance, are compared whole.
    """
    wanted, places = set(identifiers) - OUR_WORDS, []
    for file in sorted(folder.glob("*.arrow")):
        table = feather.read_table(file)
        for name in table.column_names:
            if str(table.schema.field(name).type) != "string":
                continue
            texts = {str(text).lower() for text in table[name].unique().to_pylist()} - OUR_WORDS
            if texts & wanted or (name != "patient" and _holds(" ".join(texts), wanted)):
                places.append(f"{file.name}, column {name}")
    description = json.loads((folder / "cohort.json").read_text(encoding="utf-8"))
    ours = {"input", "findings"}  # words of the plan: a patient may be called XRAY
    texts = set(_texts({key: value for key, value in description.items() if key not in ours}))
    if texts & wanted or _holds(" ".join(text for text in texts if not _HEX.fullmatch(text)), wanted):
        places.append("cohort.json")
    return places


def _holds(text: str, wanted: set[str]) -> bool:
    return any(identifier in text for identifier in wanted if len(identifier) >= SHORTEST)


def _texts(tree: object) -> list[str]:
    """Every text in a JSON tree, in lower case, but for keys, which are our own words or the standard's;
    numbers are counts."""
    values = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    return [tree.lower()] if isinstance(tree, str) else [text for value in values for text in _texts(value)]


_HEX = re.compile(r"[0-9a-f]{32,}")
