import json
import logging

import pytest

from common.logs import MAX_CHARS, JsonLine, logs_as_service, set_up_child_logs
from tests.helpers.texts import HOSTILE


@pytest.mark.parametrize("text", [*HOSTILE, "x" * 20_000_000])
def test_a_line_of_the_log_is_one_short_line(text):
    line = JsonLine().format(logging.LogRecord("n", logging.INFO, "f", 1, "said: %s", (text,), None))
    assert len(line) < 2 * MAX_CHARS + 200
    assert json.loads(line)["message"].isprintable()


def test_the_same_of_the_same_is_written_once_a_minute_with_how_often(caplog, monkeypatch):
    from common import logs

    now = [1000.0]
    monkeypatch.setattr(logs.time, "monotonic", lambda: now[0])
    sparing = logs.Sparing(logging.getLogger("pneumofed.test"))
    for _ in range(100):
        sparing.warning("refused", about="a\x1b[31m")
    sparing.warning("refused", about="b")
    assert [r.getMessage() for r in caplog.records] == ["a\\x1b[31m: refused", "b: refused"]
    now[0] += 61
    sparing.warning("refused", about="a\x1b[31m")
    assert caplog.records[-1].getMessage().endswith("refused (99 times more since it was last said)")


@pytest.fixture
def bare(monkeypatch):
    """No logger was set up."""
    monkeypatch.setattr(logging, "raiseExceptions", True)
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    for logger in (root, logging.getLogger("pneumofed"), logging.getLogger("flwr")):
        monkeypatch.setattr(logger, "level", logger.level)
    monkeypatch.setattr(logging.getLogger("flwr"), "handlers", [])


def test_a_child_logs_the_same_lines_without_the_file(bare, capsys, tmp_path):
    assert not logs_as_service()
    set_up_child_logs()
    assert logs_as_service()
    try:
        raise ValueError("Meier^Hans")
    except ValueError:
        logging.getLogger("pneumofed.test").exception("failed")
    line = json.loads(capsys.readouterr().err)
    assert (line["message"], line["exception"]) == ("failed", "ValueError")
    assert line["raised_in"][0].startswith("test_logs.py:")
    assert "Meier" not in str(line)
