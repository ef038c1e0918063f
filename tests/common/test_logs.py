import json
import logging

import pytest

from common.logs import MAX_CHARS, JsonLine
from tests.helpers.texts import HOSTILE


@pytest.mark.parametrize("text", [*HOSTILE, "x" * 20_000_000])
def test_a_line_of_the_log_is_one_short_line(text):
    line = JsonLine().format(logging.LogRecord("n", logging.INFO, "f", 1, "said: %s", (text,), None))
    assert len(line) < 2 * MAX_CHARS + 200
    assert json.loads(line)["message"].isprintable()
