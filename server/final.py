"""The end of a run: each site is asked once for the last model's scores on its test patients."""

import logging

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from common import wire
from common.errors import WireError
from common.plan import Plan
from common.results.final import FinalAnswer, FinalReport, read_answer
from server.roster import Deployment, Roster, collect, objection

log = logging.getLogger("pneumofed.server")


def ask_finally(grid: Grid, plan: Plan, weights: wire.Weights, deployment: Deployment) -> FinalReport:
    """The answers of the sites that are there; a site that gives none costs nothing but its own numbers.

    Raises:
        RunError: the run was stopped.
    """
    roster = Roster(deployment)
    roster.greet(grid, plan)
    # A site that trains alone before it answers has as long as the whole run had.
    wait_s = plan.federation.deadline_s * (plan.rounds if plan.evaluation.alone else 1)
    config = ConfigRecord({wire.PLAN_SHA256: plan.sha256, wire.RUN: deployment.run, wire.ROUND: plan.rounds})
    packed = wire.pack(weights)
    requests = [
        Message(
            RecordDict({wire.CONFIG: config, wire.ARRAYS: packed}),
            node,
            wire.EVALUATE_FINAL,
        )
        for node in roster.present(grid)
    ]
    told: dict[str, FinalAnswer] = {}
    silent = dict.fromkeys(
        (roster.name(m.metadata.dst_node_id) for m in requests), "no answer before the deadline"
    )
    for node, reply in collect(grid, requests, wait_s):
        site = roster.name(node)
        try:
            told[site] = _read(reply, plan)
            del silent[site]
        except Exception as e:  # nothing that a site sends ends the run
            silent[site] = objection(site, e)
    for site, why in (silent := {**roster.refused, **silent}).items():
        log.warning("%s: no final scores: %s", site, why)
    return FinalReport(sites=dict(sorted(told.items())), silent=dict(sorted(silent.items())))


def _read(reply: Message, plan: Plan) -> FinalAnswer:
    if reply.has_error():
        raise WireError(reply.error.reason)
    return read_answer(wire.get_text(reply.content, wire.FINAL), plan.findings, plan.evaluation.alone)
