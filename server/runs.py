"""The runs in the server's folder: what is kept of each, and in which order those that are queued begin."""

from dataclasses import replace
from pathlib import Path

from common.errors import RunError
from common.results.status import FILE, RunRecord, RunState, read_record, write_record


class Runs:
    """Reads and writes run.json of each run. All is on the disk: a server that starts again goes on with the
    same queue."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __truediv__(self, name: str) -> Path:
        return self._folder / name

    def names(self) -> list[str]:
        """Of all runs, whatever became of them."""
        return [path.name for path in sorted(self._folder.glob("*")) if path.is_dir()]

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
        found = []
        for name in self.names():
            try:
                record = self.record(name)
            except RunError:  # `state` says so
                continue
            if record.state == "queued":
                found.append((record.place or 0, name))
        return sorted(found)

    def states(self, going_on: str | None) -> dict[str, RunState]:
        """Of each run; one that is running by its file and is not `going_on` was interrupted."""
        places = {name: i for i, name in enumerate(self.queued(), 1)}
        return {name: self._state(name, going_on, places.get(name)) for name in self.names()}

    def _state(self, name: str, going_on: str | None, place: int | None) -> RunState:
        try:
            record = self.record(name)
        except RunError as e:
            return RunState(state="unreadable", problem=str(e))
        interrupted = record.state == "running" and name != going_on
        state = "interrupted" if interrupted else record.state
        return RunState(state=state, problem=record.problem, started=record.started, place=place)
