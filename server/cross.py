"""After the final scores: models that hospitals trained alone, judged by each other (a plan's
evaluation.cross)."""

import logging
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid
from safetensors.numpy import load_file, save_file

from common import wire
from common.errors import WireError
from common.plan import Plan
from common.results.final import Crossed, FinalReport
from server.roster import Roster, collect, objection

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
        """What each says of the others' models, which lie below `folder` while they are judged, and no
        longer. Who shows no model judges none.

        Raises:
            RunError: the run was stopped.
        """
        present = [
            node for node in self._roster.present(self._grid) if self._roster.name(node) in final.sites
        ]
        auroc: dict[str, dict[str, float]] = {}
        with tempfile.TemporaryDirectory(prefix="alone-", dir=folder) as place:
            files = self._models(present[: self._plan.evaluation.cross + 1], Path(place))
            for owner, file in files.items():
                judges = [node for node in files if node != owner]
                auroc[self._roster.name(owner)] = self._judgements(judges, wire.pack(load_file(file)))
        for site, why in self._silent.items():
            log.warning("%s: no part in judging models that were trained alone: %s", site, why)
        return Crossed(auroc=dict(sorted(auroc.items())), silent=dict(sorted(self._silent.items())))

    def _models(self, nodes: Sequence[int], place: Path) -> dict[int, Path]:
        """Node -> the file of the model that it trained alone."""
        files: dict[int, Path] = {}

        def keep(node: int, content: RecordDict) -> None:
            wire.check_numbers(content, ())
            save_file(self._schema.unpack(wire.get_arrays(content)), place / f"{node}.safetensors")
            files[node] = place / f"{node}.safetensors"

        config = ConfigRecord({**self._about, wire.TENSOR_BYTES: self._schema.packed_bytes})
        about = RecordDict({wire.CONFIG: config})
        self._ask([Message(about, node, wire.EVALUATE_OWN) for node in nodes], keep)
        return dict(sorted(files.items(), key=lambda one: self._roster.name(one[0])))

    def _judgements(self, nodes: Sequence[int], model: ArrayRecord) -> dict[str, float]:
        """Site -> AUROC of `model` on its test patients."""
        auroc: dict[str, float] = {}

        def note(node: int, content: RecordDict) -> None:
            site, numbers = self._roster.name(node), wire.check_numbers(content, (wire.AUROC,))
            if numbers[wire.N_EXAMPLES] > (declared := float(self._roster.declared[site][wire.N_TEST])):
                n = numbers[wire.N_EXAMPLES]
                raise WireError(f"tells of {n:.0f} test patients, declared were {declared:.0f}")
            auroc[site] = numbers[wire.AUROC]

        about = RecordDict({wire.CONFIG: ConfigRecord({**self._about}), wire.ARRAYS: model})
        self._ask([Message(about, node, wire.EVALUATE_OTHER) for node in nodes], note)
        return dict(sorted(auroc.items()))

    def _ask(self, requests: Sequence[Message], read: Callable[[int, RecordDict], None]) -> None:
        """Each answer is read; a site without one that counts is silent, and why."""
        missing = {message.metadata.dst_node_id for message in requests}
        for node, reply in collect(self._grid, requests, self._plan.federation.deadline_s):
            missing.discard(node)
            try:
                if reply.has_error():
                    raise WireError(reply.error.reason)
                read(node, reply.content)
            except Exception as e:  # nothing that a site sends ends the run
                self._silent[self._roster.name(node)] = objection(self._roster.name(node), e)
        self._silent |= {self._roster.name(node): "no answer before the deadline" for node in missing}
