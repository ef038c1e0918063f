"""Every kind of result: its keys are frozen, what is written is read back, and what is not ours is refused in one line."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import JsonValue, TypeAdapter

from common.errors import RunError
from common.files import without_nan
from common.results.attacks import PrivacyAudit
from common.results.card import Card
from common.results.evaluation import EvaluationResult
from common.results.final import FinalReport
from common.results.form import parse, read, to_text, to_tree, write
from common.results.rounds import Evaluation, RoundReport
from common.results.run import RunResult
from common.results.status import RunRecord, Status
from common.results.survey import Survey

KINDS = {
    kind.__name__: kind
    for kind in (
        RoundReport,
        RunRecord,
        Status,
        RunResult,
        PrivacyAudit,
        Survey,
        Card,
        EvaluationResult,
        FinalReport,
    )
}
KEYS = Path(__file__).with_name("keys.json")
OLDER = Path(__file__).with_name("older")
FLAT = st.none() | st.booleans() | st.integers() | st.text()
st.register_type_strategy(
    Mapping,
    lambda kind: st.dictionaries(
        *(FLAT if one is JsonValue else st.from_type(one) for one in kind.__args__), max_size=3
    ),
)
st.register_type_strategy(Sequence, lambda kind: st.lists(st.from_type(*kind.__args__), max_size=3))


def keys_of(kind):
    """All keys of its JSON, in order: `sites.*` is what stands under any name, `runs[]` one of a list."""
    schema = TypeAdapter(kind).json_schema(mode="serialization")

    def walk(part, prefix):
        if "$ref" in part:
            part = schema["$defs"][part["$ref"].rsplit("/", 1)[-1]]
        for name, one in part.get("properties", {}).items():
            yield prefix + name
            yield from walk(one, f"{prefix}{name}.")
        if isinstance(part.get("additionalProperties"), dict):
            yield from walk(part["additionalProperties"], f"{prefix}*.")
        if isinstance(part.get("items"), dict):
            yield from walk(part["items"], f"{prefix[:-1]}[].")
        for one in part.get("anyOf", []):
            yield from walk(one, prefix)

    return list(walk(schema, ""))


def test_keys_are_the_frozen_ones():
    """A key that comes, goes or moves changes what others read: then change keys.json with it."""
    assert {name: keys_of(kind) for name, kind in KINDS.items()} == json.loads(KEYS.read_text())


FREE = {name: kind for name, kind in KINDS.items() if kind is not FinalReport}
"""Whose numbers may be any; test_final.py has the other."""


@pytest.mark.parametrize("kind", FREE.values(), ids=FREE)
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_what_is_written_is_read_back(kind, data):
    text = to_text(data.draw(st.from_type(kind)))
    assert to_text(parse(kind, text, "a file", "do this")) == text
    json.loads(text, parse_constant=pytest.fail)  # neither NaN nor Infinity


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("metrics.json", RunResult),
        ("run.json", RunRecord),
        ("survey.json", Survey),
        ("card-simulation.json", Card),
        ("card-deployment.json", Card),
    ],
)
def test_a_file_from_before_there_were_formats_is_read_whole(name, kind):
    """What an older version wrote, key by key and in its order; only the format is new."""
    before = json.loads((OLDER / name).read_text())
    after = to_tree(read(kind, OLDER / name, "do this"))
    after = {key: value for key, value in after.items() if key in before or key != "format"}
    assert in_order(without_nan(after)) == in_order(before)


def in_order(tree):
    """Text in which 10 is 10.0, and keys stand as they came."""
    return json.dumps(json.loads(json.dumps(tree), parse_int=float))


def test_what_is_undefined_is_nan_here_and_null_there():
    report = evaluated(auroc=math.nan)
    assert to_tree(report)["auroc"] != to_tree(report)["auroc"]
    text = to_text(report)
    assert json.loads(text)["auroc"] is None
    assert json.loads(text)["auroc-se"] == 0.5  # by its name on the wire
    assert math.isnan(parse(Evaluation, text, "", "").auroc)


def evaluated(**numbers):
    values = {**dict.fromkeys(("loss", "auroc", "brier", "temperature", "auroc_se"), 0.5), **numbers}
    return Evaluation(**values, sites={}, failed={})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the whole: Invalid JSON"),
        ("[]", "the whole: Input should be"),
        ('{"format": "pneumofed-run-2"}', "format: Input should be 'pneumofed-run-1'"),
        ('{"run": "r", "min_sites": "2", "started": ""}', "min_sites: Input should be a valid integer"),
        (
            '{"run": "r", "min_sites": 2, "started": "", "to\\u001b[31m": 1}',
            r"to\x1b[31m: Unexpected keyword",
        ),
        ('{"run": "r", "min_sites": 2}', "started: Field required"),
        ("{" * 100_000, "the whole: Invalid JSON"),
    ],
)
def test_what_is_not_ours_is_refused_in_one_line(tmp_path, text, said):
    path = tmp_path / "run.json"
    path.write_text(text)
    with pytest.raises(RunError) as caught:
        read(RunRecord, path, "do this")
    message = str(caught.value)
    assert message.startswith(f"{path}: {said}")
    assert message.endswith("of another version of pneumofed; do this")
    assert "\n" not in message
    assert message.isprintable()


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(RunError, match=r"run\.json: cannot be read: No such file or directory; do this"):
        read(RunRecord, tmp_path / "run.json", "do this")
    write(tmp_path / "run.json", RunRecord(run="r", min_sites=2, started=""))
    assert read(RunRecord, tmp_path / "run.json", "").run == "r"
    assert json.loads((tmp_path / "run.json").read_text())["format"] == "pneumofed-run-1"
