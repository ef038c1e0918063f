"""Secure aggregation in simulation: sites that go away in every phase, and what a round costs.

`python benchmarks/secure_aggregation.py --json` -> {"rounds", "same_bits", "failed", "went_away",
"site_cpu_s", "server_cpu_s"}: in how many rounds the sum is that of the plain mean to the last bit, why a
round ended without one (empty: none did), and seconds of CPU a site and round, and of the server a round.
Nothing is trained: each site answers with random numbers. Each site goes away in each round with the chance
`--dropout`, in a phase drawn at random, but for as many as the threshold (most of the sites) needs.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import deployed_round
import numpy as np
from deployed_round import plan_of
from flwr.app import Error, Message

from common import wire
from common.aggregate import WeightedMean
from common.errors import RunError
from common.models import build_model
from common.plan import Aggregation
from common.secure.messages import STAGES
from server.checkpoint import Checkpoint
from server.observer import Silent
from server.rounds import RoundLoop
from simulation.grid import SequentialGrid
from simulation.identities import introduce

PHASES = (*STAGES[:2], "train", *STAGES[2:])


class Losing(SequentialGrid):
    """Sites go away, at most `most` in a round."""

    def __init__(self, nodes: list[dict[str, str]], dropout: float, most: int) -> None:
        super().__init__(deployed_round.app, nodes)
        self.rng, self.dropout, self.most = np.random.default_rng(0), dropout, most
        self.away: dict[int, int] = {}  # node -> the phase from which on it answers nothing
        self.n_away, self.site_cpu, self.number = 0, 0.0, 0

    def draw(self, number: int) -> None:
        """Who goes away in this round, and when."""
        self.number = number
        chosen = [node for node in self.node_configs if self.rng.random() < self.dropout][: self.most]
        self.away = {node: int(self.rng.integers(len(PHASES))) for node in chosen}
        self.n_away += len(chosen)

    def pull_messages(self, message_ids: list[str]) -> list[Message]:
        """As a site answers, unless it is away."""
        if not self._queue:
            return []
        request = self._queue[0][1]
        kind, node = request.metadata.message_type, request.metadata.dst_node_id
        if kind in PHASES:
            if (number := wire.get_round(request.content)) != self.number:
                self.draw(number)
            if PHASES.index(kind) >= self.away.get(node, len(PHASES)):
                self._queue.popleft()
                return [Message(Error(wire.SITE_CRASHED, "away"), reply_to=request)]
        started = time.process_time()
        replies = super().pull_messages(message_ids)
        self.site_cpu += time.process_time() - started
        return replies


class Compared(RoundLoop):
    """Each round beside the plain mean of the same updates."""

    n_same = 0

    def _round(self, before: Checkpoint) -> Checkpoint:
        after = super()._round(before)
        mean = WeightedMean(self.schema.shapes, self.plan.federation.max_update_norm)
        for site in after.history[-1].sites:
            mean.add(deployed_round.sent[site], 100.0)
        expected = mean.updated(before.weights)
        self.n_same += all(np.array_equal(after.weights[name], expected[name]) for name in expected)
        return after


def main() -> None:
    """Run, compare, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--sites", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--parameters", type=int, default=20_000)
    parser.add_argument("--dropout", type=float, default=0.1)
    args = parser.parse_args()
    threshold = args.sites // 2 + 1
    plan = plan_of(args.parameters, args.rounds, Aggregation(secure=True, threshold=threshold))
    plan = plan.model_copy(update={"federation": plan.federation.model_copy(update={"quorum": 0.5})})
    names = [f"site-{i:02d}" for i in range(1, args.sites + 1)]
    model = build_model(plan)
    with tempfile.TemporaryDirectory() as folder:
        known = introduce(Path(folder) / "identities", names)
        nodes = [
            {
                "site": n,
                "identity": str(known[n].key),
                "peers": str(known[n].peers),
                "memory": f"{folder}/{n}",
            }
            for n in names
        ]
        grid = Losing(nodes, args.dropout, args.sites - threshold)
        loop = Compared(grid, plan, wire.Schema.of(model), Path(folder), Silent())
        started, failed = time.process_time(), ""
        try:
            loop.run(wire.get_weights(model))
        except RunError as e:
            failed = str(e)
        spent = time.process_time() - started
    done = max(1, grid.number)
    result = {
        "sites": args.sites, "parameters": sum(p.numel() for p in model.parameters()), "rounds": grid.number,
        "same_bits": loop.n_same, "failed": failed, "went_away": grid.n_away,
        "site_cpu_s": grid.site_cpu / done / args.sites, "server_cpu_s": (spent - grid.site_cpu) / done,
    }  # fmt: skip
    print(json.dumps(result) if args.json else "\n".join(f"{k}: {v}" for k, v in result.items()))


if __name__ == "__main__":
    main()
