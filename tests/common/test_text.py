import shlex
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from common.text import cannot_be_read, printable, quoted, without_userinfo
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


def test_a_path_in_a_printed_command_is_one_word():
    assert shlex.split(f"cd {quoted(Path('/srv/St Mary; rm'))}") == ["cd", "/srv/St Mary; rm"]
    assert quoted(Path("/srv/site")) == "/srv/site"


def test_only_whose_account_it_is_is_told_to_change_it():
    denied, torn = PermissionError(13, "Permission denied"), OSError(5, "Input/output error")
    assert cannot_be_read("f", denied).startswith(
        "f: cannot be read: Permission denied; run this as the account"
    )
    assert cannot_be_read("f", torn) == "f: cannot be read: Input/output error"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://joe:hunter2@proxy:3128", "http://proxy:3128"),
        ("http://joe:a@b/c#d@proxy:3128/x?z", "http://proxy:3128/x?z"),
        ("joe:hunter2@proxy:1080", "proxy:1080"),
        ("https://pacs.example.org/dicom-web", "https://pacs.example.org/dicom-web"),
        ("rubbish", "rubbish"),
    ],
)
def test_a_url_is_shown_without_who_logs_in(url, shown):
    assert without_userinfo(url) == shown
