"""For a process of a test: the time of day is off by the seconds in a file, which may change while it runs.

On the PYTHONPATH of that process alone. Python's own doors to the wall clock are moved; the monotonic clock, which
no administrator sets, is not (faketime cannot leave it alone: with that option its sleeps fail).
"""

import datetime
import os
import time
from pathlib import Path

_FILE, _real = Path(os.environ["CLOCK_SHIFT_FILE"]), time.time


def _shifted() -> float:
    return _real() + float(_FILE.read_text() or 0)


class _Shifted(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(_shifted(), tz)


time.time = _shifted
datetime.datetime = _Shifted
