"""Attributes of a file as text and words, whatever stands in them."""

import re
import unicodedata
from collections.abc import Iterable

from pydicom import Dataset


def text(ds: Dataset, keyword: str) -> str:
    """The attribute in one line without padding; empty where it is not there."""
    return str(ds.get(keyword, "") or "").strip()


def values(ds: Dataset, keyword: str) -> list[str]:
    """Every value of an attribute, in capitals."""
    value = ds.get(keyword)
    several = [value] if isinstance(value, str) or not isinstance(value, Iterable) else list(value)
    return [str(one).strip().upper() for one in several if one is not None]


def words(*texts: str) -> list[str]:
    """Words in capitals without accents: `Thorax p.a. | Übersicht` is THORAX, PA, UBERSICHT."""
    plain = unicodedata.normalize("NFKD", " ".join(texts).upper())
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    plain = re.sub(r"\b([AP])\s?[.\-/]\s?([AP])\b", r"\1\2", plain)
    return re.findall(r"[A-Z]+", plain)


def items(ds: Dataset, keyword: str) -> list[Dataset]:
    """The items of a sequence, none where it is not one."""
    value = ds.get(keyword)
    return [item for item in value if isinstance(item, Dataset)] if isinstance(value, Iterable) else []
