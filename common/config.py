"""Typed settings <-> YAML. Unknown keys, wrong types and bad ranges are refused by name, in one line."""

import difflib
import re
import stat
from collections.abc import Hashable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, TypeVar, cast

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from common.errors import ConfigError
from common.text import cannot_be_read

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]


class Settings(BaseModel):
    """Frozen settings that know all their keys: a number is a number, a text a text, and nothing is
    guessed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


S = TypeVar("S", bound=Settings)
KIND = "source"
"""The key that tells the members of a union apart."""


class _Loader(yaml.SafeLoader):
    """Safe YAML in which `1e-3` is a number (YAML 1.2), a key that stands twice is an error, and so are the
    octal and sexagesimal numbers of YAML 1.1: nobody who writes 010 or 1:30 means 8 or 90."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    None, None, f"found the key {key!r}, expected text", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def _plain_number(loader: _Loader, node: yaml.ScalarNode) -> object:
    if ":" in node.value or _OCTAL.match(node.value):
        raise yaml.constructor.ConstructorError(
            None, None, f"found {node.value[:40]}, expected a number without colons and leading zeros, or a "
            "text in quotes", node.start_mark
        )  # fmt: skip
    is_int = node.tag == INT
    return loader.construct_yaml_int(node) if is_int else loader.construct_yaml_float(node)


INT, FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
_OCTAL = re.compile(r"[-+]?0[0-9_]+$")
for _tag in (INT, FLOAT):
    _Loader.add_constructor(_tag, _plain_number)


class _Dumper(yaml.SafeDumper):
    """Quotes a text that `_Loader` would take for a number."""


for _either in (_Loader, _Dumper):
    _either.add_implicit_resolver(
        FLOAT, re.compile(r"^[-+]?(\d[\d_]*)(\.[\d_]*)?[eE][-+]?\d+$"), list("-+0123456789")
    )


def parse_yaml(text: str, where: str) -> object:
    """Parse one YAML document; `where` names it in the error.

    Raises:
        ConfigError: the text is not YAML, nested beyond reason, or repeats a key.
    """
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - _Loader is a SafeLoader
    except yaml.YAMLError as e:
        mark = getattr(e, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(e, "problem", None) or str(e).splitlines()[0]
        raise ConfigError(f"{where}{line}: not readable as YAML: {problem}") from None
    except (ValueError, RecursionError) as e:
        raise ConfigError(f"{where}: not readable as YAML: {type(e).__name__}") from None


def load_yaml(path: Path, model: type[S], overrides: Iterable[str] = ()) -> S:
    """Read `path`, apply `key.sub=value` overrides, validate against `model`.

    Raises:
        ConfigError: the file is missing or unreadable, or a key is unknown or out of range; names file and
        key.
    """
    return cast(S, _load(_text_of(path), model, str(path), tuple(overrides)))


MAX_BYTES = 10_000_000
"""Of a YAML file: some ten times the longest plan."""


def _text_of(path: Path) -> str:
    """A device or a pipe is no file: its reading might never end."""
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise ConfigError(f"{path}: cannot be read: not a regular file; expected a YAML file")
        if about.st_size > MAX_BYTES:
            raise ConfigError(
                f"{path}: cannot be read: found {about.st_size} bytes, expected YAML of {MAX_BYTES} at most"
            )
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no such file; expected a YAML file (there are some in configs/)"
        ) from None
    except OSError as e:
        raise ConfigError(cannot_be_read(path, e)) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: cannot be read: not UTF-8 text") from None


@lru_cache(maxsize=32)
def _load(text: str, model: type[Settings], where: str, overrides: tuple[str, ...]) -> Settings:
    """What a file says; a service reads its settings and its plans anew for each message, and they seldom
    change."""
    tree = parse_yaml(text, where)
    if not isinstance(tree, dict):
        raise ConfigError(f"{where}: found {_kind(tree)} at the top, expected `key: value` lines")
    given = parse_overrides(overrides)
    for key in sorted(
        given, key=lambda key: key.rpartition(".")[2] != KIND
    ):  # first what the others are keys of
        set_value(tree, key, given[key], "--set")
    return validate(tree, model, where)


def validate(tree: Mapping[str, object], model: type[S], where: str) -> S:
    """Validate a parsed tree; every problem is named in the one line that is raised.

    Raises:
        ConfigError: with `where: key: found …, expected …` for each problem, joined by `; `; of many, the
        first.
    """
    try:
        return model.model_validate(tree)
    except ValidationError as e:
        listed: set[str] = set()
        problems = [_explain(error, model, listed) for error in e.errors()[:MOST_PROBLEMS]]
        if (more := e.error_count() - MOST_PROBLEMS) > 0:
            problems.append(f"and {more} more")
        raise ConfigError(f"{where}: " + "; ".join(problems)) from None


MOST_PROBLEMS = 8
"""That one line names."""


def dump_yaml(settings: Settings) -> str:
    """The settings as YAML that `load_yaml` reads back to an equal value."""
    return yaml.dump(settings.model_dump(mode="json"), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def parse_overrides(overrides: Iterable[str]) -> dict[str, object]:
    """`key.sub=value` each -> {"key.sub": value}. Raises ConfigError if one is not of that form."""
    overridden = {}
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key.strip():
            raise ConfigError(
                f"--set {override}: expected key=value, for example training.learning_rate=0.05"
            )
        overridden[key.strip()] = parse_yaml(value, f"--set {override}")
    return overridden


def set_value(tree: dict[str, object], key: str, value: object, where: str) -> None:
    """tree[a][b] = value for the key `a.b`. Raises ConfigError, naming `where`, if a holds something else
    than further keys."""
    *parents, leaf = key.split(".")
    for name in parents:
        branch = tree.setdefault(name, {})
        if not isinstance(branch, dict):
            raise ConfigError(f"{where} {key}: {name} holds {_kind(branch)}, not further keys")
        tree = branch
    if leaf == KIND and tree.get(leaf, value) != value:
        tree.clear()  # the keys of another kind of thing, which nobody typed
    tree[leaf] = value


def _explain(error: ErrorDetails, model: type[Settings], listed: set[str]) -> str:
    """One problem. The keys that are known beside an unknown one are told once; `listed` has where they
    were."""
    names, known = _resolve(error["loc"], model)
    key = ".".join(names) or "the whole"
    if error["type"] == "extra_forbidden":
        if close := difflib.get_close_matches(names[-1], known, n=1):
            return f"{key}: unknown key (did you mean {close[0]}?)"
        if (beside := ".".join(names[:-1])) in listed:
            return f"{key}: unknown key"
        listed.add(beside)
        return f"{key}: unknown key (known keys: {', '.join(sorted(known))})"
    if error["type"] == "missing":
        return f"{key}: missing, expected a value"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error":
        return f"{key}: {message}"
    expected = re.sub(r"^Input should be (a )?(valid )?", "", message)
    return f"{key}: found {_kind(error['input'])}, expected {expected}"


def _resolve(loc: tuple[int | str, ...], model: type[BaseModel]) -> tuple[list[str], list[str]]:
    """The key as the user wrote it (pydantic puts a union's tag between), and the keys that are known beside
    its last part."""
    names: list[str] = []
    inside: list[type[BaseModel]] = [model]
    known = list(model.model_fields)
    for part in map(str, loc):
        tagged = [m for m in inside if len(inside) > 1 and part in _tags(m)]
        if tagged:
            inside = tagged
            continue
        known = [name for m in inside for name in m.model_fields]
        names.append(part)
        inside = [
            nested
            for m in inside
            if part in m.model_fields
            for nested in _models_in(m.model_fields[part].annotation)
        ]
    return names, known


def _tags(model: type[BaseModel]) -> list[str]:
    """The values that tell this member of a union from the others, for example `source: npz`."""
    return [field.default for field in model.model_fields.values() if isinstance(field.default, str)]


def _models_in(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for argument in getattr(annotation, "__args__", ()) for m in _models_in(argument)]


def _kind(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a group of keys"
    if isinstance(value, (list, tuple)):
        return "a list"
    return repr(value) if len(repr(value)) <= 60 else repr(value)[:57] + "...'"
