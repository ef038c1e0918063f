"""`server status` and `server runs` on a terminal."""

import datetime
import math
import time
from collections.abc import Iterator, Mapping

from rich.console import Console
from rich.live import Live
from rich.text import Text

from common import wire
from common.errors import RunError
from common.report.template import duration, number
from common.results.rounds import RoundReport
from common.results.status import Progress, RunState, SiteState, Status
from server.ask import ask_status
from server.check import check_certificates
from server.runs import Runs
from server.settings import ServerFolder

EVERY_S = 2.0
NOW_S = 5.0
"""Two questions of an agent, which asks every other second: one that says nothing for longer may be gone."""
RESUMABLE = ("stopped", "failed", "interrupted")


def follow(folder: ServerFolder) -> None:
    """Draw it again and again in its place, until no run is going on or queued."""
    with Live(console=Console(soft_wrap=False), auto_refresh=False) as live:
        while True:
            now = ask_status(folder)
            live.update(Text("\n".join(lines_of(folder, now)), no_wrap=True), refresh=True)
            if now.running is None and not any(run.state == "queued" for run in now.runs.values()):
                return
            time.sleep(EVERY_S)


def lines_of(folder: ServerFolder, status: Status) -> list[str]:
    """All that is said, certificates that end soon among it."""
    findings = [f for f in check_certificates(folder) if f.outcome != "ok"]
    return [*status_lines(status), *(f"{finding.what}: {finding.text}" for finding in findings)]


def status_lines(status: Status) -> list[str]:
    """The run that is going on, each site, and the other runs."""
    now = status.running
    others = {name: run for name, run in status.runs.items() if not (now and now.name == name)}
    return [
        *(_progress(now) if now else ["no run is going on"]),
        *_table([_HEAD, *(_row(name, site) for name, site in status.sites.items())]),
        *run_lines(others),
    ]


def _progress(now: Progress) -> Iterator[str]:
    yield (
        f"{now.name}: round {now.round} of {now.rounds} done, {now.doing} ({len(now.here)} of {now.needed} "
        "sites are in)"
    )
    if now.last:
        yield f"  {_how_it_goes(now.last, now)}"
        yield from (f"  {site} failed in the last round: {why}" for site, why in now.last.failed.items())
        yield from (f"  {site} in the last round: {what}" for site, what in now.last.noted.items())


def _how_it_goes(last: RoundReport, now: Progress) -> str:
    """The last round's scores, and when the run may end: as if all rounds took as long as most did."""
    left = now.rounds - last.round
    end = f"{left} rounds left, about {duration(now.left_s)}" if left else "the last round is done"
    if last.evaluation is None:
        return end
    return f"validation AUROC {number(last.evaluation.auroc)}, loss {number(last.evaluation.loss)}; {end}"


_HEAD = ("site", "connected", "last seen", "last round", "training/validation patients", "in this run")


def _row(name: str, site: SiteState) -> tuple[str, ...]:
    told = [site.patients.get(n, math.nan) for n in (wire.N_TRAIN, wire.N_VALIDATION)]
    patients = "/".join("?" if math.isnan(n) else f"{n:.0f}" for n in told) if site.patients else ""
    return (
        name,
        "yes" if site.connected else "no",
        _ago(site.last_seen),
        str(site.last_round or ""),
        patients,
        _what(site),
    )


def _what(site: SiteState) -> str:
    if site.standing == "refuses":
        return site.why
    return f"{site.doing} for {duration(site.doing_s)}" if site.doing else site.standing


def _ago(when: str | None) -> str:
    if when is None:
        return "not yet"
    seconds = (datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(when)).total_seconds()
    return "now" if seconds < NOW_S else f"{duration(seconds)} ago"


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    """Columns one under the other; none if there is but the head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if len(rows) == 1:
        return ["no site is admitted yet"]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def run_lines(runs: Mapping[str, RunState]) -> list[str]:
    """One a run: those that are queued first, in their order."""
    order = sorted(runs.items(), key=lambda named: (named[1].place or math.inf, named[0]))
    return [_run(name, run) for name, run in order]


def _run(name: str, run: RunState) -> str:
    if run.state == "queued":
        return f"{name}: queued, number {run.place}"
    again = f"  (go on with: pneumofed server resume {name})" if run.state in RESUMABLE else ""
    return f"{name}: {run.state}{': ' + run.problem if run.problem else ''}{again}"


def states_of(folder: ServerFolder) -> Mapping[str, RunState]:
    """Of all runs, from the server if one is running, else from its folder."""
    try:
        return ask_status(folder).runs
    except RunError:
        return Runs(folder.runs).states(None)
