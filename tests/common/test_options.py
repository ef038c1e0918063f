"""Options in a range take no NaN, which is below and above none."""

import math

import pytest
import typer

from common.options import a_number


def test_a_number_is_one():
    assert [a_number(value) for value in (None, 0.0, 0.5, math.inf)] == [None, 0.0, 0.5, math.inf]
    with pytest.raises(typer.BadParameter, match="found nan"):
        a_number(math.nan)


@pytest.mark.parametrize("command", [
    ("evaluate", "model", "--on", "x", "--threshold", "nan"),
    ("evaluate", "model", "--on", "x", "--at-sensitivity", "nan"),
    ("evaluate", "model", "--on", "x", "--at-specificity", "nan"),
    ("phantom", "--out", "x", "--ambiguous", "nan"),
])  # fmt: skip
def test_every_command_with_a_share_refuses_it(here, command):
    done = here(*command)
    assert done.returncode == 2
    assert "found nan" in done.stderr
