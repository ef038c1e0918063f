"""An audit log for people and for a SIEM: nothing of an entry is lost in JSON, nothing breaks out in CEF."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.audit import AuditLog, Entry, read_entries
from common.audit_lines import LONGEST, cef, lines
from common.errors import DataError

HEADER = re.compile(
    r"CEF:0\|pneumofed\|pneumofed\|[^|]+\|((?:[^|\\]|\\.)*)\|((?:[^|\\]|\\.)*)\|(\d+)\|(.*)", re.DOTALL
)


@pytest.fixture
def log(tmp_path):
    log = AuditLog(tmp_path / "audit.log")
    log.add("received", kind="train", bytes=17)
    log.add("sent", kind="train", numbers={"loss": 0.5, "auroc": None})
    log.add("refused", reason="a=b|c\\d\nJane")
    return log.path


def extension(text):
    """key -> value of a CEF extension, as a SIEM reads it."""
    parts = re.split(r"(?:^| )(\w+)=", text)
    return {key: re.sub(r"\\(.)", r"\1", value) for key, value in zip(parts[1::2], parts[2::2], strict=True)}


def test_json_lines_are_the_log_s_own(log):
    assert list(lines(log, "json")) == log.read_text().splitlines()


def test_the_last_ones_are_shown(log):
    shown = list(lines(log, "text", last=2))
    assert len(shown) == 2
    assert shown[0].split()[0] == "2"
    assert 'numbers={"loss": 0.5, "auroc": null}' in shown[0]
    assert len(list(lines(log, "text", last=0))) == 3
    assert "\n" not in "".join(shown)


def test_cef_has_what_happened_when_and_how_grave(log):
    found = [HEADER.fullmatch(line) for line in lines(log, "cef")]
    assert [m[1] for m in found] == ["received", "sent", "refused"]
    assert [m[3] for m in found] == ["3", "3", "5"]
    told = extension(found[1][4])
    entry = list(read_entries(log))[1]
    assert told["externalId"] == "2"
    assert told["fileHash"] == entry.hash
    assert json.loads(told["msg"]) == dict(entry.facts)
    assert abs(int(told["rt"]) / 1000 - log.stat().st_mtime) < 60


def test_what_is_long_is_cut_and_says_so(tmp_path):
    log = AuditLog(tmp_path / "audit.log")
    log.add("sent", final="x" * 20_000)
    (line,) = lines(log.path, "cef")
    assert len(line) < LONGEST + 500
    assert "cut, 20013 characters" in line
    assert len(next(lines(log.path, "json"))) > 20_000


@given(st.text(max_size=60), st.text(max_size=60))
def test_nothing_that_others_wrote_breaks_out_of_its_field(event, value):
    entry = Entry(
        1, "2026-01-01T00:00:00.000+00:00", event, {"by": "anna", "reason": value}, "0" * 64, "f" * 64
    )
    line = cef(entry)
    assert line.isprintable()
    match = HEADER.fullmatch(line)
    assert match
    assert list(extension(match[4])) == ["rt", "externalId", "fileHash", "msg", "suser"]
    assert extension(match[4])["suser"] == "anna"


@pytest.mark.parametrize("new", [{"n": None}, {"time": "x"}, {"time": 5}, {"event": ["a"]}, {"hash": 1}])
@pytest.mark.parametrize("form", ["text", "json", "cef"])
def test_a_line_that_was_tampered_with_is_named(log, new, form):
    first, *others = log.read_text().splitlines()
    log.write_text("\n".join([json.dumps({**json.loads(first), **new}), *others]) + "\n")
    with pytest.raises(DataError, match="line 1: not an entry"):
        list(lines(log, form))
