"""What `server status` shows of the run that is going on: kept by an observer of its rounds."""

import logging
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from common.plan import Plan
from common.results.rounds import RoundReport
from common.results.status import Doing, Progress

log = logging.getLogger("pneumofed.server")

DOING: Mapping[str, Doing] = {"train": "training", "evaluate": "validating"}


class Watch:
    """An Observer.

    Args:
        before: the rounds that are done.
        clock: seconds that never go back.
    """

    def __init__(self, now: Progress, clock: Callable[[], float] = time.monotonic) -> None:
        self.now, self._clock = now, clock
        self.working: dict[str, tuple[Doing, float]] = {}
        """Site -> what it does, and since when by the clock."""
        self.last_round: dict[str, int] = {}
        """Site -> the last round in which its update counted."""
        self._seconds: list[float] = []

    def remember(self, before: Sequence[RoundReport]) -> None:
        """Rounds of the run that were done before this observer was there."""
        self.now = replace(self.now, round=len(before))
        for report in before:
            self.last_round |= dict.fromkeys(report.sites, report.round)

    def working_s(self, site: str) -> float:
        """For how long it does what it does; NaN if it does nothing for the run."""
        return self._clock() - self.working[site][1] if site in self.working else math.nan

    def gathering(self, here: list[str], needed: int, refused: dict[str, str]) -> None:
        self.now = replace(self.now, here=here, needed=needed, refused=refused, doing="waiting for sites")

    def started(self, sites: list[str], done: int, rounds: int) -> None:
        self.now = replace(self.now, here=sites, round=done, doing="training")
        names = ", ".join(sites)
        log.info("run %s: %d of %d rounds are done, sites: %s", self.now.name, done, rounds, names)

    def asked(self, sites: list[str], what: str) -> None:
        doing = DOING[what]
        self.working = dict.fromkeys(sites, (doing, self._clock()))
        self.now = replace(self.now, doing=doing)

    def replied(self, site: str, what: str) -> None:
        self.working.pop(site, None)

    def finished_round(self, report: RoundReport) -> None:
        self.working = {}
        self.last_round |= dict.fromkeys(report.sites, report.round)
        self._seconds.append(report.seconds)
        left_s = (self.now.rounds - report.round) * statistics.median(self._seconds)
        self.now = replace(self.now, round=report.round, last=report, doing="training", left_s=left_s)
        failed = "; ".join(f"{site}: {why}" for site, why in sorted(report.failed.items()))
        for site, what in report.noted.items():
            log.warning("%s, round %d: %s", site, report.round, what)
        log.info("run %s: round %d, %d sites, %.1f s%s", self.now.name, report.round, len(report.sites),
                 report.seconds, f"; failed: {failed}" if failed else "")  # fmt: skip


def watch_of(name: str, plan: Plan, needed: int, without: Sequence[str]) -> Watch:
    """Of a run that begins now."""
    return Watch(Progress(name=name, rounds=plan.rounds, needed=needed, without=without))
