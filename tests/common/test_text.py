import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from common.text import printable
from tests.helpers.texts import HOSTILE


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
