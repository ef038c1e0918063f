"""The run runner: one federated run at a time, in a thread of the server, and those that wait for it."""

import contextlib
import datetime
import functools
import itertools
import logging
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from common.config import dump_yaml, load_yaml
from common.errors import PneumofedError, RunError
from common.files import next_free, write_atomically
from common.handover import MODEL, sha256_of
from common.monitoring import Monitoring
from common.plan import Plan, require_current
from common.results.status import RunRecord, Status
from common.results.survey import FILE as SURVEY
from common.results.survey import SiteNumbers, read_survey
from common.text import printable
from common.waiting import MOST, Waiting
from server.beginning import FIRST, made_apart
from server.federate import PRETRAINED, federate
from server.fleet import FleetService
from server.grid import FleetGrid
from server.journal import SERVER, note
from server.roster import Deployment
from server.runs import Runs
from server.settings import ServerFolder
from server.standing import site_states
from server.strategies import require_enough_sites
from server.watch import Watch, watch_of

log = logging.getLogger("pneumofed.server")

FOR_EVER = float("inf")  # people take days to approve a plan
END_S = 10.0  # for a run to end
_END = {
    "finished": (logging.INFO, ""),
    "cancelled": (logging.INFO, ""),
    "queued": (logging.INFO, ": the server begins with it when it is started again"),
}
"""State -> how loud the log says so, and what else."""


@dataclass(frozen=True)
class Wish:
    """With which sites a run is wanted, and when."""

    sites: int | None = None
    """To wait for; None: all that are admitted and not left out."""
    without: tuple[str, ...] = ()
    """Sites that are left out."""
    first: bool = False
    """Before all that are queued."""


@dataclass(frozen=True)
class Begun:
    """What became of a wish."""

    run: str
    place: int
    """0: it is going on; 1: it is the next to begin."""


class Runner:
    """Queues, starts, stops, resumes and cancels runs."""

    def __init__(self, folder: ServerFolder, service: FleetService, monitoring: Monitoring) -> None:
        self._folder, self._service, self._runs = folder, service, Runs(folder.runs)
        self._thread: threading.Thread | None = None
        self._grid: FleetGrid | None = None
        self._watch: Watch | None = None
        self._cancelled, self._closing = "", False
        self._lock = threading.RLock()
        self._round = monitoring.gauge("round", "last finished round", "run")
        self._connected = monitoring.gauge("sites_connected", "sites that are connected")
        self._connected.set_function(lambda: float(len(self.connected())))
        service.waiting = self.waiting

    def start(self, plan: Plan, wish: Wish, pretrained: Path | None = None) -> Begun:
        """Begin a run of `plan`, or queue it behind the one that is going on.

        Raises:
            RunError: fewer sites are admitted than it needs.
            ConfigError: the plan's strategy needs more sites, its rule is gone (`require_current`), or
            `pretrained` is not the file that the plan names.
        """
        with self._lock:
            needed = self._needed(wish.sites, self._known(wish.without))
            require_current(plan)
            require_enough_sites(plan, needed)
            name = next_free(self._folder.runs, plan.name).name
            first = made_apart(plan, pretrained)
            write_atomically(self._runs / name / "plan.yaml", dump_yaml(plan).encode())
            write_atomically(self._runs / name / FIRST, first)
            if pretrained is not None:
                given = pretrained / MODEL if pretrained.is_dir() else pretrained
                write_atomically(self._runs / name / PRETRAINED, given.read_bytes())
            record = RunRecord(
                run=uuid.uuid4().hex, min_sites=needed, started=_now(), without=wish.without or None
            )
            return self._queue(name, record, ahead=wish.first)

    def resume(self, name: str, wish: Wish) -> Begun:
        """Go on with a run from its last checkpoint, before all that are queued; with other sites if `wish`
        says so.

        Raises:
            RunError: there is no such run, it is finished, cancelled or going on, or fewer sites are
            admitted than it needs.
        """
        with self._lock:
            record = self._runs.record(name)
            if record.state in ("finished", "cancelled"):
                raise RunError(f"{name}: is {record.state}; start another with: pneumofed server run PLAN")
            if self._is_going_on(name):
                raise RunError(f"{name}: is going on")
            plan = load_yaml(self._runs / name / "plan.yaml", Plan)
            without = self._known(wish.without) or tuple(record.without or ())
            needed = self._needed(wish.sites, without, before=record.min_sites)
            require_current(plan)
            require_enough_sites(plan, needed)
            record = replace(record, min_sites=needed, without=without or None)
            return self._queue(name, record, ahead=True)

    def _known(self, without: tuple[str, ...]) -> tuple[str, ...]:
        """Raises RunError if one of these sites is not admitted."""
        for name in set(without) - self._admitted():
            raise RunError(
                f"--without {printable(name, 80)}: no such site is admitted; see: pneumofed server sites"
            )
        return without

    def _needed(self, sites: int | None, without: tuple[str, ...], before: int | None = None) -> int:
        """How many sites a run waits for; `before`: for how many it did, of which none is waited for that
        cannot come. Raises RunError if fewer are admitted."""
        admitted = self._admitted()
        able = len(admitted.difference(without))
        needed = sites or (able if before is None else min(before, able))
        if not 1 <= needed <= able:
            left_out = f", {len(admitted) - able} of them left out" if able < len(admitted) else ""
            raise RunError(
                f"{len(admitted)} sites are admitted{left_out}, the run needs {max(needed, 1)}; see: "
                "pneumofed server sites"
            )
        return needed

    def _admitted(self) -> set[str]:
        return {entry.name for entry in self._service.admissions.known().values()}

    def _queue(self, name: str, record: RunRecord, *, ahead: bool) -> Begun:
        self._runs.queue(name, record, ahead=ahead)
        self.go_on()
        queued = self._runs.queued()
        return Begun(name, queued.index(name) + 1 if name in queued else 0)

    def go_on(self) -> None:
        """Begin the run that is next, if none is going on."""
        with self._lock:
            while self._watch is None and not self._closing and (queued := self._runs.queued()):
                name = queued[0]
                record = replace(self._runs.record(name), state="running", place=None)
                try:
                    self._launch(name, load_yaml(self._runs / name / "plan.yaml", Plan), record)
                except PneumofedError as e:
                    log.error("run %s cannot begin: %s", name, e)
                    self._runs.write(name, replace(record, state="failed", problem=str(e)))
                except OSError as e:  # a full disk: it stays in the queue
                    log.error("run %s cannot begin: %s", name, e.strerror)
                    return

    def stop(self) -> str:
        """Stop the run that is going on, after its last checkpoint; returns its name. What is queued goes on.

        Raises:
            RunError: there is none.
        """
        with self._lock:
            watch, end = self._watch, self._ending()
        if watch is None:
            raise RunError("no run is going on")
        end()
        if self._is_going_on(name := watch.now.name):
            raise RunError(f"{name}: has not ended in {END_S:.0f} s; it ends when what it works on is done")
        return name

    def _is_going_on(self, name: str) -> bool:
        return self._watch is not None and self._watch.now.name == name

    def _ending(self) -> Callable[[], None]:
        """What ends the run that is going on now, and not one that begins after it."""
        grid, thread = self._grid, self._thread

        def end() -> None:
            if grid is not None and thread is not None:
                grid.stop()
                thread.join(timeout=END_S)

        return end

    def cancel(self, name: str) -> None:
        """A run that is queued, going on, or could be resumed never goes on. Its files stay.

        Raises:
            RunError: there is no such run, or it is finished or cancelled already.
        """
        with self._lock:
            record = self._runs.record(name)
            if record.state in ("finished", "cancelled"):
                raise RunError(f"{name}: is {record.state}")
            if not self._is_going_on(name):
                self._runs.write(name, replace(record, state="cancelled", place=None))
                return
            self._cancelled, end = name, self._ending()
        end()
        if self._runs.record(name).state not in ("running", "cancelled"):  # it had just ended by itself
            self.cancel(name)

    def shut_down(self) -> None:
        """The server ends in order: the run that is going on is the first that the next one begins."""
        with self._lock:
            self._closing, end = True, self._ending()
        end()

    def connected(self) -> list[str]:
        """Names of the sites that are connected, whether a run is going on or not."""
        nodes = self._service.state.get_node_info(statuses=["online"])
        names = (self._service.site_of(node.node_id) for node in nodes)
        return sorted(name for name in names if name is not None)

    def status(self) -> Status:
        """The run that is going on, if there is one, every run in the folder, and every admitted site."""
        watch, connected = self._watch, self.connected()
        admitted = {name: name in connected for name in self._admitted()}
        return Status(
            running=watch.now if watch else None,
            runs=self._runs.states(watch.now.name if watch else None),
            connected=connected,
            sites=site_states(admitted, self._service.seen, watch, self._declared(watch)),
        )

    def waiting(self, site: str) -> list[Waiting]:
        """The queued runs that `site` is to take part in, in the order in which they begin."""
        return list(itertools.islice(self._waiting(site), MOST))

    def _waiting(self, site: str) -> Iterator[Waiting]:
        for name in self._runs.queued():
            # It began, or is broken: said when its turn comes.
            with contextlib.suppress(PneumofedError, OSError):
                record = self._runs.record(name)
                if site not in (record.without or ()):
                    file = self._runs / name / "plan.yaml"
                    yield Waiting(record.run, *_shown(file, file.stat().st_mtime_ns))

    def _declared(self, watch: Watch | None) -> Mapping[str, SiteNumbers]:
        if watch is None or not (self._runs / watch.now.name / SURVEY).is_file():
            return {}
        try:
            return read_survey(self._runs / watch.now.name).sites
        except RunError as e:  # for those who look: the run does without
            log.error("%s", e)
            return {}

    def _launch(self, name: str, plan: Plan, record: RunRecord) -> None:
        self._runs.write(name, record)
        self._service.follow_admissions()
        grid = FleetGrid(self._service.state, self._service.parcels, self._service.bells)
        watch = watch_of(name, plan, record.min_sites, record.without or ())
        self._watch, self._grid = watch, grid
        self._round.labels(name).set_function(lambda: watch.now.round)
        self._thread = threading.Thread(
            target=self._run, args=(name, record, watch, grid), name="run", daemon=True
        )
        self._thread.start()

    def _deployment(self, record: RunRecord) -> Deployment:
        without = frozenset(record.without or ())
        return Deployment(
            run=record.run,
            min_sites=record.min_sites,
            wait_s=FOR_EVER,
            site_of=self._service.site_of,
            without=without,
            n_admitted=lambda: len(self._admitted() - without),
        )

    def _run(self, name: str, record: RunRecord, watch: Watch, grid: FleetGrid) -> None:
        done = self._outcome(self._runs / name, record, watch, grid)
        if self._cancelled == name and done.state != "finished":
            done = replace(done, state="cancelled", problem="")
        elif self._closing and done.state == "stopped":
            done = replace(record, state="queued")
        grid.close()
        level, more = _END.get(done.state, (logging.ERROR, f"; go on with: pneumofed server resume {name}"))
        log.log(level, "run %s %s%s%s", name, done.state, done.problem and f": {done.problem}", more)
        self._note(name, done)
        self._keep(name, done)
        with self._lock:
            self._watch, self._grid = None, None
            self.go_on()

    def _keep(self, name: str, done: RunRecord) -> None:
        try:
            if done.state == "queued":
                self._runs.queue(name, done, ahead=True)
            else:
                self._runs.write(name, done)
        except OSError as e:  # then it stands as interrupted, and can be resumed all the same
            log.error("run %s: its state could not be written: %s", name, e.strerror)

    def _note(self, name: str, done: RunRecord) -> None:
        """In the audit log: how a run ended, with the hash of what came of it."""
        model = self._folder.runs / name / MODEL
        try:
            made = sha256_of(model) if done.state == "finished" and model.is_file() else ""
            note(self._folder, done.state, by=SERVER, run=name, problem=done.problem, model=made)
        except (OSError, PneumofedError) as e:
            log.error("run %s: its end could not be noted in the audit log: %s", name, e)

    def _outcome(self, folder: Path, record: RunRecord, watch: Watch, grid: FleetGrid) -> RunRecord:
        """Run to the end, whatever it is."""
        try:
            federate(folder, self._folder, grid, self._deployment(record), watch)
            return replace(record, state="finished")
        except PneumofedError as e:
            return replace(record, state="stopped" if grid.stopped else "failed", problem=str(e))
        except OSError as e:
            return replace(record, state="failed", problem=f"{e.filename or folder}: {e.strerror}")
        except Exception as e:  # the server lives on; the run can be resumed
            log.exception("run %s failed", folder.name)
            problem = f"{type(e).__name__}; the server's log has the place"
            return replace(record, state="failed", problem=problem)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


@functools.lru_cache(maxsize=256)
def _shown(file: Path, changed: int) -> tuple[str, str]:
    """A plan's hash and text, read once as it was `changed`: each site asks every few seconds."""
    plan = load_yaml(file, Plan)
    return plan.sha256, plan.canonical
