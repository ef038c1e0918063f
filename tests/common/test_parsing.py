"""JSON of others."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.parsing import parse_json

TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.slow
@given(TREES)
def test_a_text_is_what_it_says(tree):
    assert parse_json(json.dumps(tree)) == parse_json(json.dumps(tree).encode()) == tree


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "[" * 100_000 + "]" * 100_000, "", "{", b"\xff\xfe", "nul"]
)
def test_what_is_none_is_a_value_error(text):
    with pytest.raises(ValueError):  # noqa: PT011 - the texts are json's own
        parse_json(text)
