"""Frozen dataclasses <-> JSON, one way for all results.

A number that is undefined is NaN in Python and null in JSON. A file says its format; one without is from
before there were formats, and is read as the first of them.
"""

import json
import math
from pathlib import Path
from typing import Annotated, ClassVar, TypeVar, cast

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from common.errors import RunError
from common.files import without_nan, write_atomically
from common.text import printable

Number = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]
"""A float that may be undefined: NaN, and null in JSON."""
Interval = tuple[Number, Number]
"""Both ends of a 95 % interval; NaN where there is none."""


def _is_unknown(value: object) -> bool:
    return value is None or (isinstance(value, float) and not math.isfinite(value))


IF_KNOWN = Field(exclude_if=_is_unknown)
"""A field that may be None, or no finite number, and then is no key of the JSON."""
T = TypeVar("T")


class Result:
    """A frozen dataclass of this kind knows all its keys, and guesses nothing."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid", strict=True, serialize_by_alias=True)


def to_tree(value: object) -> object:
    """What json.dumps takes; undefined numbers are NaN still."""
    if isinstance(value, (list, tuple)):
        return [to_tree(one) for one in value]
    return _adapter(type(value)).dump_python(value, mode="json")


def to_text(value: object) -> str:
    """The text of a file."""
    return json.dumps(without_nan(to_tree(value)), indent=2, allow_nan=False) + "\n"


def write(path: Path, value: object) -> None:
    """Write a result's file, whole or not at all. Raises OSError."""
    write_atomically(path, to_text(value).encode())


def parse(kind: type[T], text: str | bytes, where: str, cure: str) -> T:
    """The result of type `kind` in JSON.

    Raises:
        RunError: it holds none, or one of another format; says `where`, what is wrong, and the `cure`.
    """
    try:
        return _adapter(kind).validate_json(text)
    except ValidationError as e:
        problem = e.errors(include_url=False, include_input=False)[0]
        key = printable(".".join(map(str, problem["loc"])), 80) or "the whole"
        raise RunError(
            f"{where}: {key}: {printable(problem['msg'], 80)}: damaged, or of another version of pneumofed; "
            f"{cure}"
        ) from None


def read(kind: type[T], path: Path, cure: str) -> T:
    """The result of type `kind` in a file. Raises RunError as `parse` does, or if there is no such file."""
    try:
        text = path.read_bytes()
    except OSError as e:
        raise RunError(f"{path}: cannot be read: {e.strerror}; {cure}") from None
    return parse(kind, text, str(path), cure)


_ADAPTERS: dict[object, object] = {}


def _adapter(kind: type[T]) -> TypeAdapter[T]:
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)  # takes milliseconds
    return cast(TypeAdapter[T], _ADAPTERS[kind])
