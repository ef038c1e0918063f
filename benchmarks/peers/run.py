"""The same job in plain PyTorch, ours, Flower's Ray simulation, NVIDIA FLARE's simulator and Apple's pfl.

    uv run python benchmarks/peers/run.py --json
    -> {"4": {"ours": {"wall_ratio", "warm_round_ratio", "memory_ratio", …}, "flower": …, …}, "10": …, …}

By numbers of sites. Everything trains with one thread a site, and one site at a time (but FLARE, whose sites
are processes beside each other); the plain loop is the floor, 1.0.
Wall is the whole command, start-up and, for ours, making the cohorts, scores and the report included; a warm
round is one after the first two; memory is the largest sum over all processes that a command started, each
page counted once (PSS). Systems take turns; the numbers are medians. Peers are installed in environments of
their own and borrow torch and Flower from this one.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from common.config import dump_yaml, validate
from simulation.scenario import Scenario
from simulation.sites import prepare_sites

HERE, ROOT = Path(__file__).resolve().parent, Path(__file__).resolve().parents[2]
SYSTEMS = {
    "plain": "plain.py",
    "ours": "ours.py",
    "flower": "flower_ray.py",
    "flare": "flare.py",
    "pfl": "apple_pfl.py",
}
PACKAGES = {"flare": "nvflare==2.9.0", "pfl": "pfl==0.6.0"}
WARM_UP, PATIENTS, MARK = 2, 2400, "PNEUMOFED_PEER"


def make_job(folder: Path, n_sites: int, rounds: int) -> None:
    """Images of noise, brighter in the middle where the label says so; the same patients for all."""
    rng = np.random.default_rng(n_sites)
    labels = rng.integers(0, 2, PATIENTS)
    images = rng.normal(100, 40, (PATIENTS, 28, 28))
    images[:, 9:19, 9:19] += 25 * labels[:, None, None]
    np.savez(
        folder / "images.npz",
        images=images.clip(0, 255).astype(np.uint8),
        labels=labels,
        patient_id=[f"p{k}" for k in range(PATIENTS)],
    )
    scenario = validate(
        {
            "name": "peers", "seed": 1, "rounds": rounds, "min_patients": 4,
            "input": {"size": 28, "max_frames": 1},
            "model": {"width": 32, "embedding": 64, "hidden": 64, "context": 0, "time_gap": False},
            "training": {
                "epochs": 1, "batch_size": 16, "learning_rate": 0.05, "schedule": {"name": "constant"},
                "augmentation": {},
            },
            "evaluation": {"every": 0},
            "data": {
                "source": "npz", "path": str(folder / "images.npz"),
                "partition": {"sites": n_sites, "alpha": None},
            },
            "simulation": {"threads": 1, "engine": "sequential", "arms": []},
        },
        Scenario,
        "the peers' job",
    )  # fmt: skip
    (folder / "scenario.yaml").write_text(dump_yaml(scenario))
    (folder / "plan.yaml").write_text(dump_yaml(scenario.plan))
    with tempfile.TemporaryDirectory() as place:
        for number, site in enumerate(prepare_sites(scenario, Path(place)), start=1):
            cohort = site.open()
            train = cohort.split(scenario.split)["train"]
            frames, _ = cohort.padded(train)
            np.savez(folder / f"site-{number:03d}.npz", frames=frames, labels=cohort.labels[train])


def environment(name: str, folder: Path) -> str:
    """The Python of a system's environment, made if it is not there."""
    if name not in PACKAGES:
        return sys.executable
    place = folder / name
    python = place / "bin" / "python"
    if not python.exists():
        subprocess.run(["uv", "venv", "-q", str(place), "--python", sys.executable], check=True)
        subprocess.run(["uv", "pip", "install", "-q", "--python", str(python), PACKAGES[name]], check=True)
        (borrowed,) = place.glob("lib/python*/site-packages")
        (borrowed / "borrowed.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return str(python)


class Memory(threading.Thread):
    """Watches all processes that bear a mark in their environment."""

    def __init__(self, mark: str) -> None:
        super().__init__(daemon=True)
        self.mark, self.peak, self.ended = f"{MARK}={mark}".encode(), 0, threading.Event()

    def run(self) -> None:
        """Until `ended`."""
        while not self.ended.wait(0.25):
            self.peak = max(self.peak, sum(map(pss, marked(self.mark))))


def marked(mark: bytes) -> list[Path]:
    """Their folders under /proc."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes().split(b"\0"):
                found.append(process)
        except OSError:
            continue
    return found


def pss(process: Path) -> int:
    """Bytes, those that are shared parted among their users; 0 if it has ended."""
    try:
        lines = (process / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def measure(name: str, python: str, job: Path, limit_s: float) -> dict[str, float] | None:
    """One run: seconds of it all, of a warm round, bytes at the peak, and how well its model fits; None where
    it failed or took longer than `limit_s`."""
    with tempfile.TemporaryDirectory() as place:
        work, mark = Path(place), f"{name}-{time.time_ns()}"
        variables = {
            **os.environ, MARK: mark, "PYTHONPATH": f"{HERE}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1",
            "OMP_WAIT_POLICY": "PASSIVE", "FLWR_TELEMETRY_ENABLED": "0",
            "RAY_DISABLE_DOCKER_CPU_WARNING": "1",
        }  # fmt: skip
        memory = Memory(mark)
        memory.start()
        began = time.time()
        command = [python, str(HERE / SYSTEMS[name]), str(job), str(work)]
        try:
            done = subprocess.run(
                command, env=variables, cwd=work, capture_output=True, text=True, timeout=limit_s
            )
            problem = done.stderr[-3000:] if done.returncode else ""
        except subprocess.TimeoutExpired:
            problem = f"not finished after {limit_s:g} s"
        wall = time.time() - began
        memory.ended.set()
        memory.join()
        for process in marked(memory.mark):  # what it left behind
            os.kill(int(process.name), signal.SIGKILL)
        if problem or not (work / "model.safetensors").exists():
            print(f"{name} failed: {problem}", file=sys.stderr)
            return None
        ends = [float(line) for line in (work / "ends.txt").read_text().split()]
        warm = np.diff(ends)[WARM_UP - 1 :]
        return {
            "wall": wall,
            "warm_round": float(np.median(warm)),
            "memory": float(memory.peak),
            "loss": fit(job, work),
        }


def fit(job: Path, work: Path) -> float:
    """Cross-entropy of the last weights on all training patients: whether the job was done."""
    from job import Job, inputs, read

    made = Job(job)
    model = made.model()
    model.load_state_dict(load_file(work / "model.safetensors"))
    model.eval()
    with torch.no_grad():
        sites = [read(site) for site in made.sites]
        losses = [
            torch.nn.functional.binary_cross_entropy_with_logits(
                model(*inputs(frames)), labels, reduction="sum"
            )
            for frames, labels in sites
        ]
    return float(sum(losses)) / sum(len(labels) for _, labels in sites)


Found = dict[str, float | int | str]


def compare(n_sites: int, names: list[str], places: Path, asked: argparse.Namespace) -> dict[str, Found]:
    """All systems at one number of sites, taking turns."""
    with tempfile.TemporaryDirectory() as folder:
        make_job(Path(folder), n_sites, asked.rounds)
        found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
        for _ in range(asked.repeats):
            for name in names:
                one = measure(name, environment(name, places), Path(folder), asked.limit)
                print(n_sites, name, one and {k: round(v, 3) for k, v in one.items()}, file=sys.stderr)
                found[name] += [one] if one else []
    return {name: summary(values, found["plain"], asked.repeats) for name, values in found.items()}


def summary(values: list[dict[str, float]], plain: list[dict[str, float]], repeats: int) -> Found:
    """Medians, as ratios to the floor's, and how many of the runs ended well."""
    finished: Found = {"finished": f"{len(values)} of {repeats}"}
    if not values or not plain:
        return finished
    own, floor = (
        {key: statistics.median(one[key] for one in runs) for key in runs[0]} for runs in (values, plain)
    )
    ratios = {f"{key}_ratio": round(own[key] / floor[key], 3) for key in ("wall", "warm_round", "memory")}
    sizes = {"wall_s": round(own["wall"], 1), "memory_mb": round(own["memory"] / 1e6)}
    return {**ratios, **sizes, "loss": round(own["loss"], 3), **finished}


def main() -> None:
    """All numbers of sites."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sites", type=int, nargs="+", default=[4, 10, 100])
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=list(SYSTEMS))
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--limit", type=float, default=600.0, help="seconds after which a run is given up")
    parser.add_argument("--environments", type=Path, help="where peers are installed; kept, by default not")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    names = ["plain", *(name for name in asked.systems if name != "plain")]
    with tempfile.TemporaryDirectory() as place:
        places = asked.environments or Path(place)
        found = {str(n): compare(n, names, places, asked) for n in asked.sites}
    if asked.json:
        print(json.dumps(found))
        return
    for n, systems in found.items():
        for name, numbers in systems.items():
            print(f"{n:>4} sites  {name:<8}", "  ".join(f"{k} {v}" for k, v in numbers.items()))


if __name__ == "__main__":
    main()
