"""The runs in the server's folder: what is kept of each, and in which order those that are queued begin."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from common.errors import RunError
from common.files import listed
from common.handover import MODEL, PLAN
from common.results.status import FILE, RunRecord, RunState, read_record, write_record


class Runs:
    """Reads and writes run.json of each run. All is on the disk: a server that starts again goes on with the
    same queue."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __truediv__(self, name: str) -> Path:
        return self._folder / name

    def names(self) -> list[str]:
        """Of all runs, whatever became of them. Raises OSError."""
        return [path.name for path in listed(self._folder) if path.is_dir()]

    def record(self, name: str) -> RunRecord:
        """What run.json says. Raises RunError if there is no such run, or its file is not readable."""
        if "/" in name or not (self / name / FILE).is_file():
            raise RunError(f"{name}: no such run; runs are: {', '.join(self.names()) or 'none'}")
        return read_record(self / name)

    def write(self, name: str, record: RunRecord) -> None:
        """Raises OSError."""
        write_record(self / name, record)

    def queue(self, name: str, record: RunRecord, *, ahead: bool) -> None:
        """Put it behind all that wait, or `ahead` of them. Raises OSError."""
        places = [place for place, _ in self._queued()]
        place = min(places, default=0) - 1 if ahead else max(places, default=0) + 1
        self.write(name, replace(record, state="queued", problem="", place=place))

    def queued(self) -> list[str]:
        """Names, in the order in which they begin."""
        return [name for _, name in self._queued()]

    def _queued(self) -> list[tuple[int, str]]:
        return _in_order(self._records())

    def _records(self) -> dict[str, RunRecord | RunError]:
        """Of every run; why it cannot be read, where it cannot."""
        found: dict[str, RunRecord | RunError] = {}
        for name in self.names():
            try:
                found[name] = self.record(name)
            except RunError as e:
                found[name] = e
        return found

    def states(self, going_on: str | None) -> dict[str, RunState]:
        """Of each run; one that is running by its file and is not `going_on` was interrupted."""
        records = self._records()
        places = {name: i for i, (_, name) in enumerate(_in_order(records), 1)}
        return {name: _state(r, name == going_on, places.get(name)) for name, r in records.items()}


def require_finished(folder: Path) -> None:
    """Raises RunError if a run's folder, a deployed or a simulated one's, holds no model and plan."""
    if not (folder / MODEL).is_file() or not (folder / PLAN).is_file():
        raise RunError(f"{folder}: holds no finished run; see: pneumofed server status")


def _in_order(records: Mapping[str, RunRecord | RunError]) -> list[tuple[int, str]]:
    """(place, name) of those that are queued."""
    return sorted(
        (record.place or 0, name)
        for name, record in records.items()
        if isinstance(record, RunRecord) and record.state == "queued"
    )


def _state(record: RunRecord | RunError, going_on: bool, place: int | None) -> RunState:
    if isinstance(record, RunError):
        return RunState(state="unreadable", problem=str(record))
    state = "interrupted" if record.state == "running" and not going_on else record.state
    return RunState(state=state, problem=record.problem, started=record.started, place=place)
