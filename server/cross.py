"""After the final scores: models that hospitals trained alone, judged by each other (a plan's
evaluation.cross)."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from common import wire
from common.errors import WireError
from common.plan import Plan
from common.results.final import Crossed, FinalReport
from server.roster import Roster
from server.spool import Spool

log = logging.getLogger("pneumofed.server")


class Crossing:
    """One run's, among the sites that told final scores."""

    def __init__(self, grid: Grid, plan: Plan, number: int, schema: wire.Schema, roster: Roster) -> None:
        """`number` is the round whose weights are the run's result; `schema` that of the model."""
        self._grid, self._plan, self._schema, self._roster = grid, plan, schema, roster
        run = roster.deployment.run
        self._about: dict[str, int | str] = {wire.PLAN_SHA256: plan.sha256, wire.RUN: run, wire.ROUND: number}
        self._silent: dict[str, str] = {}

    def judge(self, final: FinalReport, folder: Path) -> Crossed:
        """What each says of the others' models, which lie in a file without a name, of `folder`, while they
        are judged. Who shows no model judges none.

        Raises:
            RunError: the run was stopped.
        """
        present = {self._roster.name(node): node for node in self._roster.present(self._grid)}
        shown = [site for site in present if site in final.sites][: self._plan.evaluation.cross + 1]
        models = Spool(folder)
        auroc: dict[str, dict[str, float]] = {}
        try:
            self._gather([present[site] for site in shown], models)
            for owner in sorted(models):
                judges = [present[site] for site in sorted(models) if site != owner]
                auroc[owner] = self._judgements(judges, wire.packed(models[owner]))
        finally:
            models.clear()
        for site, why in self._silent.items():
            log.warning("%s: no part in judging models that were trained alone: %s", site, why)
        return Crossed(auroc=auroc, silent=dict(sorted(self._silent.items())))

    def _gather(self, nodes: Sequence[int], models: Spool) -> None:
        """The model that each trained alone, by its site."""

        def keep(site: str, content: RecordDict) -> None:
            wire.check_numbers(content, ())
            model = self._schema.unpack(wire.get_arrays(content))
            models[site] = wire.pack(model)[wire.PACKED].data

        config = ConfigRecord({**self._about, wire.TENSOR_BYTES: self._schema.packed_bytes})
        self._ask(nodes, wire.EVALUATE_OWN, RecordDict({wire.CONFIG: config}), keep)

    def _judgements(self, nodes: Sequence[int], model: ArrayRecord) -> dict[str, float]:
        """Site -> AUROC of `model` on its test patients."""
        auroc: dict[str, float] = {}

        def note(site: str, content: RecordDict) -> None:
            numbers = wire.check_numbers(content, (wire.AUROC,))
            if numbers[wire.N_EXAMPLES] > (declared := float(self._roster.declared[site][wire.N_TEST])):
                n = numbers[wire.N_EXAMPLES]
                raise WireError(f"tells of {n:.0f} test patients, declared were {declared:.0f}")
            auroc[site] = numbers[wire.AUROC]

        about = RecordDict({wire.CONFIG: ConfigRecord({**self._about}), wire.ARRAYS: model})
        self._ask(nodes, wire.EVALUATE_OTHER, about, note)
        return dict(sorted(auroc.items()))

    def _ask(
        self, nodes: Sequence[int], kind: str, about: RecordDict, read: Callable[[str, RecordDict], None]
    ) -> None:
        requests = [Message(about, node, kind) for node in nodes]
        deadline_s = self._plan.federation.deadline_s
        self._silent |= self._roster.ask(self._grid, requests, deadline_s, read)
