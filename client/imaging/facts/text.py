"""Attributes of a file as text and words, whatever stands in them."""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any

from pydicom import Dataset
from pydicom.charset import CODES_TO_ENCODINGS, ESC, decode_bytes, default_encoding
from pydicom.dataelem import RawDataElement
from pydicom.hooks import hooks, raw_element_value
from pydicom.multival import MultiValue
from pydicom.valuerep import CUSTOMIZABLE_CHARSET_VR, PN_DELIMS, TEXT_VR_DELIMS


def text(ds: Dataset, keyword: str) -> str:
    """The attribute in one line without padding, several values as the file parts them; empty where it is not
    there."""
    value = ds.get(keyword, "")
    return "\\".join(map(str, value)) if isinstance(value, MultiValue) else str(value or "").strip()


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


def _convert(raw: RawDataElement, data: dict[str, Any], *, encoding: Any = None, **more: Any) -> None:
    """A raw element's value, as pydicom does it, in the characters that it is written in: many files declare
    others, or none, and what cannot be decoded as they say would be the same for two people."""
    if data["VR"] in CUSTOMIZABLE_CHARSET_VR and not _is_plain(raw.value or b""):
        value = bytes(raw.value or b"")
        encoding = next((one for one in _characters(value, encoding) if _decodes(value, one)), encoding)
    raw_element_value(raw, data, encoding=encoding, **more)


hooks.register_callback("raw_element_value", _convert)


def _is_plain(value: bytes) -> bool:
    return value.isascii() and ESC not in value


def _characters(value: bytes, declared: str | list[str] | None) -> Iterator[list[str]]:
    """Python's names of the sets that a value may be written in, the surest first."""
    said = [declared] if isinstance(declared, str) else declared or [default_encoding]
    if said != [default_encoding]:  # pydicom's for none, which takes any byte
        yield said
    if ESC in value:
        yield [said[0], *CODES_TO_ENCODINGS.values()]
    yield from (["utf-8"], ["latin-1"])


def _decodes(value: bytes, encodings: list[str]) -> bool:
    if ESC not in value:
        try:
            return bool(value.decode(encodings[0]))
        except (LookupError, UnicodeError):
            return False
    decoded = decode_bytes(value, encodings, TEXT_VR_DELIMS | PN_DELIMS | set(b"=\\"))
    return not {"\ufffd", "\x1b"} & set(decoded)
