"""The run runner: one federated run at a time, in a thread of the server; its folder holds what a resume
needs."""

import datetime
import logging
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from flwr.app import Context, RecordDict
from flwr.common.constant import SUPERLINK_NODE_ID
from safetensors.numpy import save

from common import wire
from common.boards import open_boards
from common.config import dump_yaml, load_yaml
from common.errors import PneumofedError, RunError
from common.files import next_free, write_atomically
from common.handover import MODEL, sha256_of
from common.monitoring import Monitoring
from common.plan import Plan
from common.results.final import write_final
from common.results.rounds import RoundReport, write_history
from common.results.run import write_result
from common.results.status import FILE, Progress, RunRecord, RunState, Status, read_record, write_record
from common.results.survey import Survey, write_survey
from server.app import build_app
from server.beginning import FIRST, made_apart, read_first
from server.checkpoint import Checkpoint, load_checkpoint
from server.curves import Recorded
from server.final import ask_finally
from server.fleet import FleetService
from server.grid import FleetGrid
from server.journal import SERVER, note
from server.live import Live
from server.outcome import outcome
from server.roster import Deployment, Roster
from server.settings import ServerFolder
from server.strategies import require_enough_sites

log = logging.getLogger("pneumofed.server")

PRETRAINED = "pretrained.safetensors"
FOR_EVER = float("inf")  # people take days to approve a plan


class Watch:
    """An Observer: keeps what `server status` shows of the run that is going on."""

    def __init__(self, name: str, rounds: int, needed: int) -> None:
        self.now = Progress(name=name, rounds=rounds, needed=needed)

    def gathering(self, here: list[str], needed: int, refused: dict[str, str]) -> None:
        self.now = replace(self.now, here=here, refused=refused, doing="waiting for sites")

    def started(self, sites: list[str], done: int, rounds: int) -> None:
        self.now = replace(self.now, here=sites, round=done, doing="training")
        names = ", ".join(sites)
        log.info("run %s: %d of %d rounds are done, sites: %s", self.now.name, done, rounds, names)

    def replied(self, site: str, what: str) -> None:
        self.now = replace(self.now, doing="training" if what == "train" else "validating")

    def finished_round(self, report: RoundReport) -> None:
        self.now = replace(self.now, round=report.round, last=report, doing="training")
        failed = "; ".join(f"{site}: {why}" for site, why in sorted(report.failed.items()))
        for site, what in report.noted.items():
            log.warning("%s, round %d: %s", site, report.round, what)
        log.info("run %s: round %d, %d sites, %.1f s%s", self.now.name, report.round, len(report.sites),
                 report.seconds, f"; failed: {failed}" if failed else "")  # fmt: skip


class Runner:
    """Starts, stops and resumes runs."""

    def __init__(self, folder: ServerFolder, service: FleetService, monitoring: Monitoring) -> None:
        self._folder, self._service = folder, service
        self._thread: threading.Thread | None = None
        self._grid: FleetGrid | None = None
        self._watch: Watch | None = None
        self._lock = threading.Lock()
        self._round = monitoring.gauge("round", "last finished round", "run")
        self._connected = monitoring.gauge("sites_connected", "sites that are connected")
        self._connected.set_function(lambda: float(len(self.connected())))

    def start(self, plan: Plan, min_sites: int | None, pretrained: Path | None = None) -> str:
        """Begin a run of `plan` with at least `min_sites` sites (default: all that are admitted); returns its
        name.

        Raises:
            RunError: another run is going on, or fewer sites are admitted.
            ConfigError: the plan's strategy needs more sites, or `pretrained` is not the file that the plan
            names.
        """
        with self._lock:
            self._require_idle()
            n_admitted = len(self._service.admissions.current())
            needed = n_admitted if min_sites is None else min_sites
            if not 1 <= needed <= n_admitted:
                raise RunError(
                    f"{n_admitted} sites are admitted, the run needs {max(needed, 1)}; see: pneumofed server "
                    "sites"
                )
            require_enough_sites(plan, needed)
            name = next_free(self._folder.runs, plan.name).name
            first = made_apart(plan, pretrained)
            write_atomically(self._folder.runs / name / "plan.yaml", dump_yaml(plan).encode())
            write_atomically(self._folder.runs / name / FIRST, first)
            if pretrained is not None:
                given = pretrained / MODEL if pretrained.is_dir() else pretrained
                write_atomically(self._folder.runs / name / PRETRAINED, given.read_bytes())
            self._launch(name, plan, RunRecord(run=uuid.uuid4().hex, min_sites=needed, started=_now()))
            return name

    def resume(self, name: str) -> None:
        """Go on with a run from its last checkpoint.

        Raises:
            RunError: there is no such run, it is finished, or another one is going on.
        """
        with self._lock:
            self._require_idle()
            record = self.record(name)
            if record.state == "finished":
                raise RunError(f"{name}: is finished; start another with: pneumofed server run PLAN")
            plan = load_yaml(self._folder.runs / name / "plan.yaml", Plan)
            self._launch(name, plan, replace(record, state="running", problem=""))

    def stop(self) -> str:
        """Stop the run that is going on, after its last checkpoint; returns its name. Raises RunError if
        there is none."""
        grid, watch = self._grid, self._watch
        if grid is None or watch is None:
            raise RunError("no run is going on")
        grid.stop()
        if self._thread is not None:
            self._thread.join(timeout=10)
        return watch.now.name

    def shut_down(self) -> None:
        """The server ends: the run stays as it is on disk, interrupted, and can be resumed."""
        grid, thread = self._grid, self._thread
        if grid is not None and thread is not None:
            grid.stop()
            thread.join(timeout=10)

    def connected(self) -> list[str]:
        """Names of the sites that are connected, whether a run is going on or not."""
        nodes = self._service.state.get_node_info(statuses=["online"])
        names = (self._service.site_of(node.node_id) for node in nodes)
        return sorted(name for name in names if name is not None)

    def status(self) -> Status:
        """The run that is going on, if there is one, and every run in the folder."""
        now = self._watch.now if self._watch else None
        names = [path.name for path in sorted(self._folder.runs.glob("*")) if path.is_dir()]
        runs = {name: self._state(name, now) for name in names}
        return Status(running=now, runs=runs, connected=self.connected())

    def _state(self, name: str, now: Progress | None) -> RunState:
        try:
            record = self.record(name)
        except RunError as e:
            return RunState(state="unreadable", problem=str(e))
        interrupted = record.state == "running" and (now is None or now.name != name)
        return RunState(
            state="interrupted" if interrupted else record.state,
            problem=record.problem,
            started=record.started,
        )

    def record(self, name: str) -> RunRecord:
        """What run.json says. Raises RunError if there is no such run, or its file is not readable."""
        folder = self._folder.runs / name
        if "/" in name or not (folder / FILE).is_file():
            known = ", ".join(sorted(p.name for p in self._folder.runs.glob("*"))) or "none"
            raise RunError(f"{name}: no such run; runs are: {known}")
        return read_record(folder)

    def _require_idle(self) -> None:
        if self._thread is not None and self._thread.is_alive():
            assert self._watch is not None
            raise RunError(
                f"the run {self._watch.now.name} is going on; wait for it, or stop it with: pneumofed server "
                "stop"
            )

    def _launch(self, name: str, plan: Plan, record: RunRecord) -> None:
        write_record(self._folder.runs / name, record)
        self._service.follow_admissions()
        self._watch = Watch(name, plan.rounds, record.min_sites)
        self._grid = FleetGrid(self._service.state, self._service.parcels)
        self._thread = threading.Thread(
            target=self._run, args=(name, record, self._watch, self._grid), name="run", daemon=True
        )
        self._thread.start()

    def _run(self, name: str, record: RunRecord, watch: Watch, grid: FleetGrid) -> None:
        folder = self._folder.runs / name
        done = self._outcome(folder, record, watch, grid)
        grid.close()
        self._round.labels(name).set(watch.now.round)
        again = "" if done.state == "finished" else f"; go on with: pneumofed server resume {name}"
        level = logging.INFO if done.state == "finished" else logging.ERROR
        log.log(level, "run %s %s %s%s", name, done.state, done.problem, again)
        self._note(name, done)
        try:
            write_record(folder, done)
        except OSError as e:  # then it stands as interrupted, and can be resumed all the same
            log.error("run %s: its state could not be written: %s", name, e.strerror)
        self._watch, self._grid = None, None

    def _note(self, name: str, done: RunRecord) -> None:
        """In the audit log: how a run ended, with the hash of what came of it."""
        model = self._folder.runs / name / MODEL
        made = sha256_of(model) if done.state == "finished" and model.is_file() else ""
        try:
            note(self._folder, done.state, by=SERVER, run=name, problem=done.problem, model=made)
        except (OSError, PneumofedError) as e:
            log.error("run %s: its end could not be noted in the audit log: %s", name, e)

    def _outcome(self, folder: Path, record: RunRecord, watch: Watch, grid: FleetGrid) -> RunRecord:
        """Run to the end, whatever it is."""
        try:
            self._federate(folder, record, watch, grid)
            return replace(record, state="finished")
        except PneumofedError as e:
            return replace(record, state="stopped" if grid.stopped else "failed", problem=str(e))
        except OSError as e:
            return replace(record, state="failed", problem=f"{e.filename or folder}: {e.strerror}")
        except Exception as e:  # the server lives on; the run can be resumed
            log.exception("run %s failed", folder.name)
            problem = f"{type(e).__name__}; the server's log has the place"
            return replace(record, state="failed", problem=problem)

    def _federate(self, folder: Path, record: RunRecord, watch: Watch, grid: FleetGrid) -> None:
        deployment = Deployment(record.run, record.min_sites, FOR_EVER, self._service.site_of)
        self._require_first(folder)
        config = {"plan": str(folder / "plan.yaml"), "out": str(folder), "first": str(folder / FIRST)}
        context = Context(grid.run.run_id, SUPERLINK_NODE_ID, {}, RecordDict(), config)  # type: ignore[arg-type]
        with self._recorded(watch, folder) as observer:
            build_app(observer, deployment)(grid, context)
        self._hand_over(folder, grid, deployment, watch)

    @contextmanager
    def _recorded(self, watch: Watch, folder: Path) -> Iterator[Recorded]:
        """Its rounds stand in the run's folder while it goes on, and on the boards that server.yaml names."""
        plan, kinds = load_yaml(folder / "plan.yaml", Plan), self._folder.settings().curves
        done = load_checkpoint(folder, plan.sha256)
        history = done.history if done else ()
        facts = {"name": plan.name, "plan_sha256": plan.sha256}
        with open_boards(kinds, self._folder.curves, folder.name, facts, len(history)) as boards:
            yield Recorded(Live(watch, boards), folder, "federated", {}, history)

    def _require_first(self, folder: Path) -> None:
        """A run of an older version has no such file."""
        if not (folder / FIRST).is_file():
            given = folder / PRETRAINED
            plan = load_yaml(folder / "plan.yaml", Plan)
            write_atomically(folder / FIRST, made_apart(plan, given if given.is_file() else None))

    def _hand_over(self, folder: Path, grid: FleetGrid, deployment: Deployment, watch: Watch) -> None:
        """The final weights as a file of their own, the history as JSON, and what the sites say of the last
        model."""
        plan = load_yaml(folder / "plan.yaml", Plan)
        checkpoint = load_checkpoint(folder, plan.sha256)
        if plan.rounds == 0:
            checkpoint = Checkpoint(0, read_first(folder / FIRST))
        if checkpoint is None:
            raise RunError(f"{folder}: the run ended without a checkpoint")
        chosen = checkpoint.chosen(plan)
        metadata = {"plan_sha256": plan.sha256, "rounds": str(chosen.round)}
        write_atomically(folder / MODEL, save(wire.model_part(chosen.weights), metadata=metadata))
        write_history(folder, checkpoint.history)
        (folder / FIRST).unlink()
        if not plan.evaluation.final:
            return
        roster = Roster(deployment)
        final = ask_finally(grid, plan, chosen, roster, watch.gathering)
        survey = Survey.of(roster.declared, plan.findings)
        write_survey(folder, survey)
        write_final(folder, final)
        if final.sites:
            write_result(folder, outcome(plan, final, checkpoint, survey))


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
