"""What a server says of its runs: run.json beside each, and the answer to `server status`."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from common.results.form import IF_KNOWN, Number, Result, read, write
from common.results.rounds import RoundReport

FILE = "run.json"
Standing = Literal["", "not here", "refuses", "in", "left out"]
Doing = Literal["", "training", "validating"]
State = Literal["queued", "running", "finished", "stopped", "failed", "cancelled"]


@dataclass(frozen=True, kw_only=True)
class RunRecord(Result):
    """run.json: what is kept of a run beside its plan and checkpoint."""

    format: Literal["pneumofed-run-1"] = "pneumofed-run-1"
    run: str
    """Identifies the run to the sites; the same after a resume."""
    min_sites: int
    started: str
    state: State = "running"
    problem: str = ""
    without: Annotated[Sequence[str] | None, IF_KNOWN] = None
    """Admitted sites that the run leaves out."""
    place: Annotated[int | None, IF_KNOWN] = None
    """While it is queued: the lowest begins next."""


@dataclass(frozen=True, kw_only=True)
class Progress(Result):
    """The run that is going on."""

    name: str
    rounds: int
    needed: int
    round: int = 0
    doing: Doing | Literal["waiting for sites"] = "waiting for sites"
    here: Sequence[str] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    without: Sequence[str] = ()
    last: RoundReport | None = None
    left_s: Number = math.nan
    """Seconds that the rounds to come take, if they last like the median of those that this server saw."""


@dataclass(frozen=True, kw_only=True)
class RunState(Result):
    """One run of the server's folder."""

    state: State | Literal["interrupted", "unreadable"]
    problem: str
    started: Annotated[str | None, IF_KNOWN] = None
    place: Annotated[int | None, IF_KNOWN] = None
    """Of a queued one: 1 begins next."""


@dataclass(frozen=True, kw_only=True)
class SiteState(Result):
    """One admitted site, and what it does in the run that is going on."""

    connected: bool
    last_seen: Annotated[str | None, IF_KNOWN] = None
    """When its last request came (UTC); None if none has since the server started."""
    standing: Standing = ""
    """In the run; empty if none is going on."""
    why: str = ""
    """Of one that refuses, in its own words: not approved, no cohort, budget, hours, policy."""
    doing: Doing = ""
    doing_s: Number = math.nan
    last_round: Annotated[int | None, IF_KNOWN] = None
    """Of this run, in which its update counted."""
    patients: Mapping[str, Number] = field(default_factory=dict)
    """n_train and n_validation, as it said when the run greeted it; NaN if they are too few to be told."""


@dataclass(frozen=True, kw_only=True)
class Status(Result):
    """All runs, and every admitted site."""

    running: Progress | None
    runs: Mapping[str, RunState]
    connected: Sequence[str]
    sites: Mapping[str, SiteState] = field(default_factory=dict)


def read_record(folder: Path) -> RunRecord:
    """Of a run's folder. Raises RunError if there is none, or it is of another version."""
    return read(RunRecord, folder / FILE, "start another run")


def write_record(folder: Path, record: RunRecord) -> None:
    """Raises OSError."""
    write(folder / FILE, record)
