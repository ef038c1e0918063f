"""What the terminal shows while a simulation runs."""

import math

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from common.results.rounds import RoundReport


class ArmProgress:
    """One bar for one arm: rounds done, the site that works, the last validation AUROC."""

    def __init__(self, progress: Progress, arm: str, rounds: int) -> None:
        self._progress, self._arm = progress, arm
        self._task: TaskID = progress.add_task(arm, total=rounds, note="waiting")

    def gathering(self, here: list[str], needed: int, refused: dict[str, str]) -> None:
        self._note(f"{len(here)} of {needed} sites are here")

    def started(self, sites: list[str], done: int, rounds: int) -> None:
        self._progress.reset(self._task, completed=done, total=rounds)
        self._note(f"{len(sites)} site{'s' * (len(sites) != 1)}")

    def asked(self, sites: list[str], what: str) -> None:
        return

    def replied(self, site: str, what: str) -> None:
        self._note(f"{site} {'trained' if what == 'train' else 'validated'}")

    def finished_round(self, report: RoundReport) -> None:
        note = f"{len(report.sites)} sites answered"
        if report.evaluation and math.isfinite(report.evaluation.auroc):
            note = f"validation AUROC {report.evaluation.auroc:.3f}"
        missing = f", missing {', '.join(sorted(report.failed))}" if report.failed else ""
        self._progress.update(self._task, completed=report.round)
        self._note(note + missing)
        if not self._progress.console.is_terminal:
            self._progress.console.print(
                f"{self._arm}: round {report.round}, {note}{missing}, {report.seconds:.1f} s"
            )

    def _note(self, note: str) -> None:
        self._progress.update(self._task, note=note)


class AuditProgress:
    """One bar for each thing that a privacy audit does; elsewhere than on a terminal one line each."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, what: str, done: int, total: int) -> None:
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(what, total=total, note="")
            if not self._progress.console.is_terminal:
                self._progress.console.print(what)
        self._progress.update(self._tasks[what], completed=done)


def make_progress(console: Console) -> Progress:
    """Bars for a terminal; elsewhere one line a round."""
    return Progress(
        TextColumn("{task.description:<22}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        disable=not console.is_terminal,
    )
