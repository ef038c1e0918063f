"""`pneumofed simulate`, all of it: cohorts from images, rounds, scores, report. `python ours.py JOB WORK`."""

import sys
from pathlib import Path

import torch
from job import finished, round_ended
from safetensors.torch import load_file

from common.config import load_yaml
from common.results.rounds import RoundReport
from server.observer import Silent
from simulation import runs
from simulation.scenario import Scenario
from simulation.simulate import simulate


class Watch(Silent):
    """Notes when a round ended."""

    def __init__(self, work: Path) -> None:
        self.work = work

    def finished_round(self, report: RoundReport) -> None:
        """As an Observer."""
        round_ended(self.work)


def main(job: Path, work: Path) -> None:
    """As the command does it."""
    out = work / "run"
    scenario = load_yaml(job / "scenario.yaml", Scenario)
    out.mkdir()
    runs.start(out, scenario)
    simulate(scenario, out, lambda arm: Watch(work))
    finished(work, load_file(out / "model.safetensors"))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
