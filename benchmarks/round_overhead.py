"""Overhead of a simulated round over a plain PyTorch loop that does the same training in the same process.

    uv run python benchmarks/round_overhead.py --json     ->  {"ratio": 1.01, …}

Both train the same model at four sites with the same batches and torch.optim.SGD's arithmetic, and average
the weights. The plain loop holds everything in memory and calls nothing of Flower; ours sends Flower messages
through the ClientApp and ServerApp, checks every reply, and writes a checkpoint each round. Rounds of both
are interleaved, so that a slow moment hits both; the ratio is that of the medians, over warm rounds (the
first ones are left out).
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from client.app import app
from client.compute.batches import in_batches
from client.compute.device import set_up_process
from client.imaging.cohort import Cohort
from client.site_config import SiteConfig
from client.training.local import masked_loss
from client.training.optimizer import Optimizer
from client.training.schedule import rate_factor
from common import wire
from common.config import dump_yaml, load_yaml
from common.models import build_model
from common.plan import Plan
from common.results.rounds import RoundReport
from common.seeds import torch_generator
from server.checkpoint import load_checkpoint
from server.observer import Silent
from server.rounds import RoundLoop
from simulation.cli import QUICKSTART
from simulation.grid import SequentialGrid
from simulation.scenario import Scenario
from simulation.sites import SiteData, prepare_sites

SITES, WARM_UP = 4, 2


def make_scenario(rounds: int) -> Scenario:
    """The quickstart at four sites; no evaluation and no augmentation, which the plain loop does not do
    either."""
    overrides = [f"rounds={rounds}", f"data.sites={SITES}", "evaluation.every=0", "training.augmentation={}"]
    return load_yaml(QUICKSTART, Scenario, overrides)


class PlainLoop:
    """What a researcher would write by hand."""

    def __init__(self, plan: Plan, sites: list[SiteData]) -> None:
        self.plan, self.cohorts = plan, {site.name: site.open() for site in sites}
        self.model = build_model(plan)
        self.weights = {name: w.clone() for name, w in self.model.state_dict().items()}

    def round(self, number: int) -> float:
        started = time.perf_counter()
        mean = {name: torch.zeros_like(w) for name, w in self.weights.items()}
        total = 0
        for name, cohort in self.cohorts.items():
            self.model.load_state_dict(self.weights)
            n = self._train(self.model, name, cohort, number)
            total += n
            for key, w in self.model.state_dict().items():
                mean[key] += n * w
        self.weights = {key: w / total for key, w in mean.items()}
        return time.perf_counter() - started

    def _train(self, model: nn.Module, site: str, cohort: Cohort, number: int) -> int:
        plan, train = self.plan, cohort.split(self.plan.split)["train"]
        generator = torch_generator(plan.seed, "train", site, number)
        optimizer, device = Optimizer(model.parameters(), plan.training), torch.device("cpu")
        steps = plan.training.epochs * -(-len(train) // plan.training.batch_size)
        step = (number - 1) * steps
        model.train()
        for _ in range(plan.training.epochs):
            for batch in in_batches(cohort, train, plan.training.batch_size, device, generator):
                optimizer.zero_grad()
                masked_loss(
                    model(batch.frames, batch.gaps, batch.lengths), batch.labels, torch.ones(1)
                ).backward()
                progress = step / (plan.rounds * steps)
                optimizer.step(plan.training.learning_rate * rate_factor(plan.training.schedule, progress))
                step += 1
        return len(train)


class TakesTurns(Silent):
    """After each of our rounds, one of the plain loop's."""

    def __init__(self, plain: PlainLoop, folder: Path) -> None:
        self.plain, self.folder, self.ours, self.theirs, self.difference = plain, folder, [], [], float("nan")
        self._mark = time.perf_counter()

    def started(self, sites: list[str], done: int, rounds: int) -> None:
        self._mark = time.perf_counter()

    def finished_round(self, report: RoundReport) -> None:
        self.ours.append(time.perf_counter() - self._mark)  # checkpoint included
        self.theirs.append(self.plain.round(report.round))
        if report.round == 1:  # later, rounding drives two runs apart
            ours = load_checkpoint(self.folder, self.plain.plan.sha256).weights
            self.difference = max(
                float(np.abs(w - self.plain.weights[k].numpy()).max()) for k, w in ours.items()
            )
        self._mark = time.perf_counter()


def measure(rounds: int) -> dict[str, float]:
    """Run both and compare; also that a round gives the same weights, or the comparison is worth nothing."""
    set_up_process(torch.get_num_threads())
    with tempfile.TemporaryDirectory() as folder:
        out, scenario = Path(folder), make_scenario(rounds)
        sites, plan = prepare_sites(scenario, out), scenario.plan
        (out / "plan.yaml").write_text(dump_yaml(plan))
        nodes = [SiteConfig(s.name, s.folders, out / "plan.yaml", device="cpu").to_node() for s in sites]
        model = build_model(plan)
        turns = TakesTurns(PlainLoop(plan, sites), out)
        RoundLoop(SequentialGrid(app, nodes), plan, wire.Schema.of(model), out, turns).run(
            wire.get_weights(model)
        )
    if not turns.difference < 1e-6:
        raise SystemExit(
            f"the two loops did other work (weights differ by {turns.difference:.2g} after a round)"
        )
    medians = [statistics.median(times[WARM_UP:]) for times in (turns.ours, turns.theirs)]
    return {
        "ratio": medians[0] / medians[1], "round_s": medians[0], "plain_round_s": medians[1],
        "rounds": rounds - WARM_UP, "weight_difference_after_a_round": turns.difference,
    }  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=14)
    arguments = parser.parse_args()
    import logging

    logging.getLogger("flwr").setLevel(logging.WARNING)
    result = measure(arguments.rounds)
    print(json.dumps(result) if arguments.json else "\n".join(f"{k}: {v:.4g}" for k, v in result.items()))
