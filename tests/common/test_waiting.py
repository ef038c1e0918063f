"""What a server may tell of its queue, and what it may not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import WireError
from common.waiting import MAX_PLAN_CHARS, MOST, Waiting, parse, to_tree

TEXTS = st.text(max_size=20)


@given(st.lists(st.builds(Waiting, TEXTS, TEXTS, TEXTS), max_size=MOST + 5))
def test_the_first_are_read_as_they_were_told(queue):
    assert parse(to_tree(queue)) == queue[:MOST]


GOOD = {"run": "r", "sha256": "0" * 64, "plan": "{}"}


@pytest.mark.parametrize(
    "tree",
    [
        None,
        {},
        "",
        [None],
        [[]],
        [{}],
        [{**GOOD, "more": ""}],
        [{**GOOD, "run": 1}],
        [{**GOOD, "plan": {}}],
        [{**GOOD, "plan": "x" * (MAX_PLAN_CHARS + 1)}],
        [GOOD] * (MOST + 1),
    ],
)
def test_anything_else_is_refused(tree):
    with pytest.raises(WireError, match="not readable"):
        parse(tree)
