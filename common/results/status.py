"""What a server says of its runs: run.json beside each, and the answer to `server status`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from common.results.form import IF_KNOWN, Result, read, write
from common.results.rounds import RoundReport

FILE = "run.json"
State = Literal["running", "finished", "stopped", "failed"]


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


@dataclass(frozen=True, kw_only=True)
class Progress(Result):
    """The run that is going on."""

    name: str
    rounds: int
    needed: int
    round: int = 0
    doing: str = "waiting for sites"
    here: Sequence[str] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    last: RoundReport | None = None


@dataclass(frozen=True, kw_only=True)
class RunState(Result):
    """One run of the server's folder."""

    state: State | Literal["interrupted", "unreadable"]
    problem: str
    started: Annotated[str | None, IF_KNOWN] = None


@dataclass(frozen=True, kw_only=True)
class Status(Result):
    """All runs, and the sites that are connected."""

    running: Progress | None
    runs: Mapping[str, RunState]
    connected: Sequence[str]


def read_record(folder: Path) -> RunRecord:
    """Of a run's folder. Raises RunError if there is none, or it is of another version."""
    return read(RunRecord, folder / FILE, "start another run")


def write_record(folder: Path, record: RunRecord) -> None:
    """Raises OSError."""
    write(folder / FILE, record)
