"""Logs of a service: one JSON object a line, in files that rotate. They hold no patient identifier, because
no room logs one."""

import json
import logging
import math
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import RotatingFileHandler
from pathlib import Path
from types import TracebackType

from common.text import printable

MAX_BYTES, KEPT = 10_000_000, 5
MAX_CHARS = 2000  # of one message: nobody rotates the log away with one line


class JsonLine(logging.Formatter):
    """time (UTC), level, logger, message; of an exception its type and where it was raised, not its text.

    The text of a foreign exception may quote a value that it choked on, and that value may be a patient's.
    """

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": printable(record.getMessage(), MAX_CHARS),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = record.exc_info[0].__name__
            line["raised_in"] = origin(record.exc_info[2])
        return json.dumps(line, ensure_ascii=False)


class Sparing:
    """Writes of the same thing about the same subject once a minute, and then how often it happened."""

    PAUSE_S, MOST_SUBJECTS = 60.0, 1000

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._last: dict[tuple[str, str], tuple[float, int]] = {}  # when it was written, how often since

    def warning(self, text: str, about: str, kind: str = "") -> None:
        """`about` is who or what it happened to: short, and not secret. `kind` is what is the same of texts
        that are not, as where one has words of the other side."""
        now, key = time.monotonic(), (kind or text, about)
        when, since = self._last.get(key, (-math.inf, 0))
        if now - when < self.PAUSE_S:
            self._last[key] = (when, since + 1)
            return
        if len(self._last) >= self.MOST_SUBJECTS:
            self._last.clear()
        self._last[key] = (now, 0)
        again = f" ({since} times more since it was last said)" if since else ""
        self._logger.warning("%s: %s%s", printable(about, 100), text, again)


def origin(raised: TracebackType | None) -> list[str]:
    """Where an exception came from, outermost first: files, lines and functions, no values."""
    return [f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in traceback.extract_tb(raised)]


def set_up_logs(folder: Path, name: str) -> None:
    """Log to `folder`/`name`.log (rotating) and to standard error, where systemd's journal picks it up.

    Raises:
        OSError: the folder cannot be made or written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rotating = RotatingFileHandler(folder / f"{name}.log", maxBytes=MAX_BYTES, backupCount=KEPT)
    _log_by(rotating, logging.StreamHandler())


def logs_as_service() -> bool:
    """Whether this process was set up by one of these two."""
    return any(isinstance(handler.formatter, JsonLine) for handler in logging.getLogger().handlers)


def set_up_child_logs() -> None:
    """Log as the service that started this process, to standard error alone: two processes that rotate one
    file lose lines."""
    _log_by(logging.StreamHandler())


def _log_by(*handlers: logging.Handler) -> None:
    root = logging.getLogger()
    for handler in handlers:
        handler.setFormatter(JsonLine())
        root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("pneumofed").setLevel(logging.INFO)
    flower = logging.getLogger("flwr")  # brings a handler of its own, which would print each line twice
    flower.handlers.clear()
    flower.propagate = True
    flower.setLevel(logging.ERROR)
    logging.raiseExceptions = False  # a full disk costs log lines, not the service


@contextmanager
def log_to(path: Path, logger: logging.Logger) -> Iterator[None]:
    """Let `logger` write to a file that only its owner reads, and to nothing else."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    handler = RotatingFileHandler(path, maxBytes=MAX_BYTES, backupCount=KEPT)
    handler.setFormatter(JsonLine())
    before = logger.level, logger.propagate
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()
        logger.setLevel(before[0])
        logger.propagate = before[1]
