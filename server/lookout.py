"""What a coordinator is told without looking (common/notices.py): a run that ended, a site that is gone, a
certificate that ends."""

import time
from collections.abc import Callable, Mapping

from common.checkup import Finding
from common.notices import Herald
from common.results.status import Status

LOST_S = 600.0
"""A site that was here and is not for so long is lost."""
ENDED = ("finished", "failed", "stopped")


class Lookout:
    """Compares what is with what was; `look` and `look_at_certificates` are called now and then.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, herald: Herald, clock: Callable[[], float] = time.monotonic) -> None:
        self._herald, self._clock = herald, clock
        self._states: Mapping[str, str] | None = None
        self._seen: dict[str, float] = {}  # when each site was last connected

    def look(self, status: Status) -> None:
        """Tell what changed since it was last called."""
        states = {name: run.state for name, run in status.runs.items()}
        for name, state in states.items():
            if self._states is not None and state in ENDED and self._states.get(name) != state:
                problem = status.runs[name].problem
                self._herald.tell(
                    f"run {name} {state}", f"run {name} {state}", problem or "Nothing was wrong."
                )
        self._states = states
        now = self._clock()
        for site in status.connected:
            self._seen[site] = now
            self._herald.forget(f"lost {site}")
        self._seen = {site: last for site, last in self._seen.items() if site in status.sites}
        for site, last in self._seen.items():
            if now - last > LOST_S:
                away = f"{site} has not been connected for {(now - last) / 60:.0f} minutes."
                self._herald.tell(f"lost {site}", f"site {site} is lost", away)

    def look_at_certificates(self, findings: list[Finding]) -> None:
        """Tell which end soon, or have ended."""
        for finding in findings:
            if finding.outcome != "ok":
                self._herald.tell(f"certificate {finding.what}", f"{finding.what}: look at it", finding.text)
