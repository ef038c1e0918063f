"""What people see is what they approve: texts of others at the terminal and in the log."""

import json
import logging

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from common.logs import MAX_CHARS, JsonLine
from common.text import printable

HOSTILE = [
    "\x1b[2K\rseed: 0 -> 1",
    "\x9b2J",
    "a\u202eb",
    "a\u200bb",
    "a\nb",
    "a\u2028b",
    "\u2066x",
    "\ufeff",
    "\x00",
    "\x7f",
]


@given(st.text(max_size=300), st.integers(1, 250))
@example("\ud800", 10)
def test_whatever_it_is_it_is_visible_in_one_line_and_short(text, limit):
    shown = printable(text, limit)
    assert shown.isprintable()
    assert len(shown) <= limit
    assert shown == text or not text.isprintable() or len(text) > limit


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_that_moves_or_hides_letters_stays(text):
    assert printable(text) != text
    assert all(c.isprintable() and c not in "\u202e\u200b\u2066" for c in printable(text))


@pytest.mark.parametrize("text", [*HOSTILE, "x" * 20_000_000])
def test_a_line_of_the_log_is_one_short_line(text):
    line = JsonLine().format(logging.LogRecord("n", logging.INFO, "f", 1, "said: %s", (text,), None))
    assert len(line) < 2 * MAX_CHARS + 200
    assert json.loads(line)["message"].isprintable()


@pytest.mark.parametrize("text", HOSTILE)
def test_a_reason_is_printable_in_the_audit_log_and_in_the_answer(site, text):
    admitted = site.admit("train", 1)
    answer = site.gate.refuse(admitted.request, text * 1000)
    assert answer.error.reason.isprintable()
    assert len(answer.error.reason) <= 400
