"""The end of a run: each site is asked once for the last model's scores on its test patients."""

import logging
import time
from collections.abc import Callable

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from common import wire
from common.errors import WireError
from common.plan import Plan
from common.results.final import FinalAnswer, FinalReport, read_answer
from server.broadcast import Broadcast
from server.checkpoint import Chosen
from server.roster import POLL_S, Roster
from server.rounds import GRACE_S

Gathering = Callable[[list[str], int, dict[str, str]], None]
log = logging.getLogger("pneumofed.server")


def ask_finally(
    grid: Grid,
    plan: Plan,
    chosen: Chosen,
    roster: Roster,
    gathering: Gathering = lambda *_: None,
) -> FinalReport:
    """The answers of the sites that are there; one that gives none costs its own numbers alone. Where nothing
    was trained before, the run's sites are waited for; `gathering` is told as an Observer is.

    Raises:
        RunError: the run was stopped.
    """
    present = _gather(grid, plan, roster, gathering)
    # A site that trains alone before it answers has as long as the whole run had.
    wait_s = plan.federation.deadline_s * (plan.rounds if plan.evaluation.alone else 1)
    config = ConfigRecord(
        {wire.PLAN_SHA256: plan.sha256, wire.RUN: roster.deployment.run, wire.ROUND: chosen.round}
    )
    requests = [Message(RecordDict({wire.CONFIG: config}), node, wire.EVALUATE_FINAL) for node in present]
    broadcast = Broadcast(plan, wire.Schema.of_weights(chosen.weights))
    broadcast.greeted(roster.declared)
    broadcast.fill(requests, chosen.weights, roster.names)
    told: dict[str, FinalAnswer] = {}

    def read(site: str, content: RecordDict) -> None:
        told[site] = _read(content, plan, float(roster.declared[site][wire.N_TEST]))

    silent = {**roster.refused, **roster.ask(grid, requests, wait_s, read)}
    for site, why in silent.items():
        log.warning("%s: no final scores: %s", site, why)
    return FinalReport(sites=dict(sorted(told.items())), silent=dict(sorted(silent.items())))


def _gather(grid: Grid, plan: Plan, roster: Roster, gathering: Gathering) -> list[int]:
    """Nodes of the sites that are there; after training, those that come within a moment."""
    deployment = roster.deployment
    end = time.monotonic() + (deployment.wait_s if plan.rounds == 0 else min(deployment.wait_s, GRACE_S))
    while True:
        roster.greet(grid, plan)
        present = roster.present(grid)
        needed = deployment.at_most(deployment.min_sites)
        if len(present) >= needed or time.monotonic() >= end:
            return present
        gathering([roster.names[node] for node in present], needed, dict(roster.refused))
        time.sleep(POLL_S)


def _read(content: RecordDict, plan: Plan, declared: float) -> FinalAnswer:
    """`declared` test patients were told at the greeting; NaN if the site withheld their number."""
    answer = read_answer(wire.get_text(content, wire.FINAL), plan.findings, plan.evaluation.alone)
    if not answer.federated.n_patients <= declared:  # NaN: who may not say how many has too few to answer
        raise WireError(f"tells of {answer.federated.n_patients} test patients, declared were {declared:.0f}")
    return answer
