"""Who watches a run's rounds."""

from typing import Protocol

from common.results.rounds import RoundReport


class Observer(Protocol):
    """Somebody who watches a run: a progress display, a log."""

    def gathering(self, here: list[str], needed: int, refused: dict[str, str]) -> None: ...

    def started(self, sites: list[str], done: int, rounds: int) -> None: ...

    def asked(self, sites: list[str], what: str) -> None: ...

    def replied(self, site: str, what: str) -> None: ...

    def finished_round(self, report: RoundReport) -> None: ...


class PassingOn:
    """Tells another one all that it is told: for who adds something to one of these."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def gathering(self, here: list[str], needed: int, refused: dict[str, str]) -> None:
        self._observer.gathering(here, needed, refused)

    def started(self, sites: list[str], done: int, rounds: int) -> None:
        self._observer.started(sites, done, rounds)

    def asked(self, sites: list[str], what: str) -> None:
        self._observer.asked(sites, what)

    def replied(self, site: str, what: str) -> None:
        self._observer.replied(site, what)

    def finished_round(self, report: RoundReport) -> None:
        self._observer.finished_round(report)


class Silent:
    """Watches nothing."""

    def gathering(self, here: list[str], needed: int, refused: dict[str, str]) -> None:
        return

    def started(self, sites: list[str], done: int, rounds: int) -> None:
        return

    def asked(self, sites: list[str], what: str) -> None:
        return

    def replied(self, site: str, what: str) -> None:
        return

    def finished_round(self, report: RoundReport) -> None:
        return
