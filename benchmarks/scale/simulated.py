"""One simulated federation, rounds alone, in this process: `python simulated.py SITES FRAMES HIDDEN ROUNDS`
prints what a round costs, as JSON. Patients are images of noise; every site has 24. Run by run.py."""

import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from client.imaging.cohort import build_cohort
from client.imaging.frames import InMemory
from client.imaging.outcome import Tally
from client.imaging.sequence import Collection, Frame, Sequence
from common.arms import FEDERATED
from common.config import validate
from common.models import build_model
from common.results.rounds import RoundReport
from server.observer import Silent
from simulation import runs
from simulation.scenario import Scenario
from simulation.simulate import run_arm
from simulation.sites import SiteData

PATIENTS, SIZE, WARM_UP = 24, 28, 1


class Watch(Silent):
    """What every round needed: seconds of the processor, and what travelled; descriptors at its end."""

    def __init__(self) -> None:
        self.spent: list[float] = []
        self.travelled, self.descriptors, self._last = 0, 0, time.process_time()

    def finished_round(self, report: RoundReport) -> None:
        """As an Observer."""
        now = time.process_time()
        self.spent.append(now - self._last)
        self._last, self.travelled = now, report.bytes_up + report.bytes_down
        self.descriptors = len(os.listdir("/proc/self/fd"))
        assert not report.failed, report.failed


def scenario_of(frames: int, hidden: int, rounds: int) -> Scenario:
    """Plain training, one thread."""
    return validate(
        {
            "name": "scale", "seed": 1, "rounds": rounds, "min_patients": 2,
            "input": {"size": SIZE, "max_frames": frames},
            "model": {"width": 8, "embedding": 64, "hidden": hidden},
            "training": {"epochs": 1, "batch_size": 16, "learning_rate": 0.05, "augmentation": {}},
            "evaluation": {"every": 0},
            "simulation": {"threads": 1, "arms": []},
        },
        Scenario,
        "the scenario",
    )  # fmt: skip


def site(folder: Path, number: int, scenario: Scenario) -> SiteData:
    """A hospital's cohort."""
    rng = np.random.default_rng(number)
    sequences = [
        Sequence(
            f"p{number}-{i}",
            tuple(
                Frame(float(k), InMemory(rng.random((SIZE, SIZE), dtype=np.float32)))
                for k in range(scenario.input.max_frames)
            ),
            np.full(1, i % 2, np.float32),
        )
        for i in range(PATIENTS)
    ]
    place = folder / f"site-{number:04d}"
    build_cohort(place, Collection(sequences, Tally()), scenario.input, scenario.findings, b"key", "stamp")
    return SiteData(place.name, (place,))


def memory_mb(what: str) -> float:
    """VmRSS, resident now, or VmHWM, the most since it was last set back."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(what)).split()[1]) / 1024


def main() -> None:
    """Cohorts, then the rounds, then what they took."""
    n_sites, frames, hidden, rounds = map(int, sys.argv[1:])
    torch.set_num_threads(1)
    scenario, watch = scenario_of(frames, hidden, rounds), Watch()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        runs.start(folder, scenario)
        sites = [site(folder / "cohorts", number, scenario) for number in range(n_sites)]
        before = memory_mb("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
        run_arm(scenario, FEDERATED, sites, folder, watch)
    print(json.dumps({
        "cpu_s": statistics.median(watch.spent[WARM_UP:]), "megabytes": memory_mb("VmHWM") - before,
        "bytes": watch.travelled, "descriptors": watch.descriptors,
        "parameters": sum(p.numel() for p in build_model(scenario.plan).parameters()),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
