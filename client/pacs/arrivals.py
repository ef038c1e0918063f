"""Studies that arrived and wait to be read: on the disk until what was read is filed, so that no crash loses
one."""

import hashlib
import math
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

from common.files import write_atomically

STUDY = "study"
"""The file in a study's folder that holds its UID."""


class Arrivals:
    """The studies below one folder, a folder each, which only its owner reads. Any thread may ring.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder, self._clock = folder, clock
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for place in folder.iterdir():
            if not (place / STUDY).is_file():  # what was read, and was not quite removed
                shutil.rmtree(place, ignore_errors=True)
        self._ready_from: dict[str, float] = {
            path.read_text(encoding="utf-8"): -math.inf for path in sorted(folder.glob(f"*/{STUDY}"))
        }
        self._rung = threading.Condition()

    def __len__(self) -> int:
        return len(self._ready_from)

    def place(self, study: str) -> Path:
        """The folder of a study's own; its name is a hash, as UIDs come from outside."""
        return self._folder / hashlib.sha256(study.encode()).hexdigest()[:32]

    def ring(self, study: str, wait_s: float) -> None:
        """Something of a study has arrived, or it could not be read yet: it is ready in `wait_s`, unless it
        rings again. Raises OSError."""
        note = self.place(study) / STUDY
        with self._rung:
            if not note.is_file():
                write_atomically(note, study.encode())
            self._ready_from[study] = self._clock() + wait_s
            self._rung.notify()

    def take(self, timeout_s: float) -> str | None:
        """The study that has been ready for longest, which waits no more; None if none is within
        `timeout_s`."""
        end = self._clock() + timeout_s
        with self._rung:
            while True:
                first = min(self._ready_from, key=self._ready_from.__getitem__, default=None)
                now = self._clock()
                if first is not None and self._ready_from[first] <= now:
                    self.begin(first)
                    return first
                if now >= end:
                    return None
                ready = math.inf if first is None else self._ready_from[first]
                self._rung.wait(max(0.0, min(end, ready) - now))

    def begin(self, study: str) -> None:
        """A study is being read: it waits no more, unless it rings again."""
        with self._rung:
            self._ready_from.pop(study, None)

    def done(self, study: str) -> None:
        """A study was read: nothing of it stays, unless it has rung since."""
        with self._rung:
            if study not in self._ready_from:
                (self.place(study) / STUDY).unlink(missing_ok=True)
                shutil.rmtree(self.place(study), ignore_errors=True)
