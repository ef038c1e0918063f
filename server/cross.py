"""After the final scores: models that hospitals trained alone, judged by each other (a plan's
evaluation.cross)."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from common import wire
from common.errors import WireError
from common.plan import Plan
from common.results.final import Crossed, FinalReport
from server.roster import NO_ANSWER, Roster
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
        are judged. Who shows no model judges none; who did not answer in time is not asked again.

        Raises:
            RunError: the run was stopped.
        """
        present = {self._roster.name(node): node for node in self._roster.present(self._grid)}
        self._silent = dict.fromkeys(
            final.sites.keys() - present.keys(), "it went away after its final scores"
        )
        models = Spool(folder)
        auroc: dict[str, dict[str, float]] = {}
        try:
            self._gather({site: node for site, node in present.items() if site in final.sites}, models)
            for owner in sorted(models) if len(models) > 1 else ():
                judges = [site for site in models if site != owner and self._silent.get(site) != NO_ANSWER]
                nodes = [present[site] for site in sorted(judges)]
                auroc[owner] = self._judgements(nodes, wire.packed(models[owner]))
        finally:
            models.clear()
        for site, why in self._silent.items():
            log.warning("%s: no part in judging models that were trained alone: %s", site, why)
        return Crossed(auroc=auroc, silent=dict(sorted(self._silent.items())))

    def _gather(self, nodes: Mapping[str, int], models: Spool) -> None:
        """The models that these trained alone, in the order of their names, of so many sites as are to judge
        each other; none where there is nobody to judge it."""

        def keep(site: str, content: RecordDict) -> None:
            wire.check_numbers(content, ())
            arrays = wire.get_arrays(content)
            model = self._schema.unpack(arrays)
            wire.let_go(arrays)
            models[site] = wire.pack(model)[wire.PACKED].data

        config = ConfigRecord({**self._about, wire.TENSOR_BYTES: self._schema.packed_bytes})
        left, most = sorted(nodes), self._plan.evaluation.cross + 1
        while left and len(models) < most and len(models) + len(left) > 1:
            asked, left = left[: most - len(models)], left[most - len(models) :]
            about = RecordDict({wire.CONFIG: config})
            self._ask([nodes[site] for site in asked], wire.EVALUATE_OWN, about, keep)

    def _judgements(self, nodes: Sequence[int], model: ArrayRecord) -> dict[str, float]:
        """Site -> AUROC of `model` on its test patients."""
        auroc: dict[str, float] = {}

        def note(site: str, content: RecordDict) -> None:
            numbers = wire.check_numbers(content, (wire.AUROC,))
            n, declared = numbers[wire.N_EXAMPLES], float(self._roster.declared[site][wire.N_TEST])
            if not n <= declared:  # NaN: it told none
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
