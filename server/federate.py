"""One run, from its folder to its model: the rounds, what is written meanwhile, and what is handed over."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from flwr.app import Context, RecordDict
from flwr.common.constant import SUPERLINK_NODE_ID
from safetensors.numpy import save

from common import wire
from common.boards import open_boards
from common.config import load_yaml
from common.errors import RunError
from common.files import write_atomically
from common.handover import MODEL
from common.plan import Plan
from common.results.final import read_final, write_final
from common.results.rounds import trained, write_history
from common.results.run import write_result
from common.results.survey import add_to_survey
from server.app import build_app
from server.beginning import FIRST, made_apart, read_first
from server.checkpoint import Checkpoint, load_checkpoint
from server.cross import Crossing
from server.curves import Recorded
from server.final import ask_finally
from server.grid import FleetGrid
from server.live import Live
from server.outcome import outcome
from server.roster import Deployment, Roster
from server.settings import ServerFolder
from server.watch import Watch

PRETRAINED = "pretrained.safetensors"
"""In a run's folder: what its plan starts from."""


def federate(
    folder: Path, server: ServerFolder, grid: FleetGrid, deployment: Deployment, watch: Watch
) -> None:
    """All rounds that are left of the run in `folder`, and its model.

    Raises:
        PneumofedError: what ended it; it can be resumed.
        OSError: of the disk.
    """
    plan = load_yaml(folder / "plan.yaml", Plan)
    _require_first(folder, plan)
    config = {"plan": str(folder / "plan.yaml"), "out": str(folder), "first": str(folder / FIRST)}
    context = Context(grid.run.run_id, SUPERLINK_NODE_ID, {}, RecordDict(), config)  # type: ignore[arg-type]
    with _recorded(folder, plan, server, watch) as observer:
        build_app(observer, deployment)(grid, context)
    _hand_over(folder, plan, grid, deployment, watch)


@contextmanager
def _recorded(folder: Path, plan: Plan, server: ServerFolder, watch: Watch) -> Iterator[Recorded]:
    """Its rounds stand in the run's folder while it goes on, and on the boards that server.yaml names."""
    done = load_checkpoint(folder, plan.sha256)
    history = done.history if done else ()
    watch.remember(history)
    facts = {"name": plan.name, "plan_sha256": plan.sha256}
    kinds = server.settings().curves
    with open_boards(kinds, server.curves, folder.name, facts, len(history)) as boards:
        yield Recorded(Live(watch, boards), folder, "federated", {}, history)


def _require_first(folder: Path, plan: Plan) -> None:
    """A run of an older version has no such file."""
    if not (folder / FIRST).is_file():
        given = folder / PRETRAINED
        write_atomically(folder / FIRST, made_apart(plan, given if given.is_file() else None))


def _hand_over(folder: Path, plan: Plan, grid: FleetGrid, deployment: Deployment, watch: Watch) -> None:
    """The final weights as a file of their own, the history as JSON, and what the sites say of the last
    model."""
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
    before = read_final(folder)
    final = ask_finally(grid, plan, chosen, roster, watch.gathering).after(before)
    final = final.naming(trained(checkpoint.history))
    survey = add_to_survey(folder, roster.declared, plan.findings)
    write_final(folder, final)  # whatever becomes of what follows
    if plan.evaluation.cross and final.sites and final.crossed is None:
        model = wire.Schema.of_weights(chosen.weights).of_model
        final = replace(final, crossed=Crossing(grid, plan, chosen.round, model, roster).judge(final, folder))
        write_final(folder, final)
    if final.sites:
        write_result(folder, outcome(plan, final, checkpoint, survey))
