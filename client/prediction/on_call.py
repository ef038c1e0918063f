"""Reads one study after the other as they arrive, for as long as it is let."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from client.pacs.arrivals import Arrivals
from client.prediction.reading import End, Reader, Reading, log
from common.errors import ConfigError, DataError, LinkError, RunError

QUIET_S = 2.0
"""A study to which nothing was added for so long is read. If more comes later, it is read again."""
FIRST_WAIT_S, LONGEST_WAIT_S = 5.0, 600.0
"""Until the next try of a study that could not be fetched or filed; each time twice as long."""
POLL_S = 0.5


class OnCall:
    """Reads what is in `arrivals`; `say` gets a line for people, without a patient in it."""

    def __init__(self, reader: Reader, arrivals: Arrivals, say: Callable[[str], None]) -> None:
        self._reader, self._arrivals, self._say = reader, arrivals, say
        self.ends: Counter[End] = Counter()
        self._tries: Counter[str] = Counter()

    def serve(self, ended: threading.Event) -> None:
        """Until `ended` is set. Raises OSError: the disk is full. Raises RunError: the GPU failed."""
        while not ended.is_set():
            study = self._arrivals.take(POLL_S)
            if study is not None and not self._try(study, "; it is tried again"):
                wait_s = min(FIRST_WAIT_S * 2 ** (self._tries[study] - 1), LONGEST_WAIT_S)
                self._arrivals.ring(study, wait_s)

    def read_numbers(self, accessions: list[str], where: Path) -> None:
        """The studies of some accession numbers, once.

        Raises:
            DataError: one is no such number, or not in the PACS, or its study could not be read; `where` is
            the log that says why.
        """
        studies = {number: self._reader.studies_of(number) for number in accessions}
        unread = self.read_now(sorted({study for some in studies.values() for study in some}))
        missing, failed = sum(not some for some in studies.values()), self.ends[End.NOT_READ] + unread
        if missing or failed:
            raise DataError(
                f"{missing} of {len(studies)} accession numbers are not in the PACS, {failed} studies could "
                f"not be read; see {where}"
            )

    def read_now(self, studies: list[str]) -> int:
        """Each of them once; returns of how many the images or the PACS were not to be had."""
        unread = 0
        for study in studies:
            self._arrivals.ring(study, 0.0)
            self._arrivals.begin(study)
            unread += not self._try(study)
        return unread

    def _try(self, study: str, then: str = "") -> bool:
        began = time.monotonic()
        try:
            reading = self._reader.read(study, self._arrivals.place(study))
        except LinkError as e:
            self._tries[study] += 1
            self._tell(study, f"not read yet: {e}{then}")
            return False
        except (OSError, ConfigError, RunError):  # the site's own: the study waits until it is cured
            raise
        except DataError as e:
            reading = Reading(End.NOT_READ, str(e))
        except Exception as e:  # a file that nobody foresaw costs its own study
            reading = Reading(End.NOT_READ, f"failed ({type(e).__name__})")
        self._tries.pop(study, None)
        self.ends[reading.end] += 1
        self._arrivals.done(study)
        self._tell(study, _line(reading, time.monotonic() - began))
        return True

    def _tell(self, study: str, what: str) -> None:
        line = f"{self._reader.tag(study)}: {what}"
        self._say(line)
        log.info("%s", line)


def _line(reading: Reading, seconds: float) -> str:
    told = ", ".join(f"{finding} {probability:.2f}" for finding, probability in reading.probabilities)
    more = "; ".join(filter(None, [told, reading.why]))
    return f"{reading.end.value}{f': {more}' if more else ''} ({seconds:.1f} s)"
