"""The source's claim: a CNN-LSTM sees in a sequence what nobody sees in its images.

`python benchmarks/sequence_claim.py --json` -> {"relapse": {"cnn_lstm", "mean", "last_image", "first_image",
"shuffled"}, "trend": {…}, "obvious": {…}}: test AUROC of federated models, means over --seeds, on the
ambiguous patients of phantoms in which half are obvious; "obvious" is on those, of relapse. Without --json,
each beside what the best possible reader of its kind would reach (simulation/course.py).
"""

import argparse
import csv
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from client.app import app
from client.compute.device import set_up_process
from client.imaging.cohort import Cohort, build_cohort, pseudonym
from client.imaging.frames import Frame
from client.imaging.sequence import Sequence
from client.imaging.sources import DicomFolder
from client.training.evaluate import predict
from common import metrics, wire
from common.config import dump_yaml, load_yaml
from common.models import build_model
from common.plan import Plan
from common.seeds import numpy_generator
from server.observer import Silent
from server.rounds import RoundLoop
from simulation.cli import QUICKSTART
from simulation.grid import SequentialGrid
from simulation.phantom import optima_of, write_phantom
from simulation.scenario import Scenario

SITES, PATIENTS = 3, {"relapse": 900, "trend": 400}
SETTINGS = (
    "rounds=24", "evaluation.every=0", "training.optimizer=adam", "training.learning_rate=0.003",
    "training.augmentation.shift=0.1", "training.augmentation.scale=0.15", "training.augmentation.rotate=10",
    "training.augmentation.flip=true",
)  # fmt: skip
"""The quickstart's network with stronger augmentation and Adam: with SGD it learns the same in more
rounds."""
READS = {
    "cnn_lstm": "ordered",
    "mean": "unordered",
    "last_image": "last",
    "first_image": "first",
    "shuffled": "unordered",
}
ONE = ("model.context=0", "input.max_frames=1")
PLANS: Mapping[str, tuple[str, ...]] = {
    "cnn_lstm": (), "shuffled": (), "last_image": ONE, "first_image": ONE,
    "mean": ("model.recurrent=false", "model.context=0", "model.pooling=mean"),
}  # fmt: skip


def shuffled(sequence: Sequence) -> Sequence:
    """The images in an order of chance, at the same days."""
    order = numpy_generator(0, "shuffled", sequence.patient).permutation(len(sequence.frames))
    frames = [
        Frame(f.position, sequence.frames[k].image) for f, k in zip(sequence.frames, order, strict=True)
    ]
    return replace(sequence, frames=tuple(frames))


SEEN: Mapping[str, Callable[[Sequence], Sequence]] = {
    "cnn_lstm": lambda s: s, "mean": lambda s: s, "shuffled": shuffled,
    "last_image": lambda s: replace(s, frames=s.frames[-1:]),
    "first_image": lambda s: replace(s, frames=s.frames[:1]),
}  # fmt: skip


def main() -> None:
    """Both phantoms, every network, every seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--kinds", nargs="+", default=list(PATIENTS), choices=list(PATIENTS))
    arguments = parser.parse_args()
    set_up_process(1)
    found: dict[str, dict[str, list[float]]] = {}
    for kind in arguments.kinds:
        for seed in range(1, arguments.seeds + 1):
            with tempfile.TemporaryDirectory() as folder:
                _run(kind, seed, Path(folder), found, quiet=arguments.json)
    print(json.dumps({kind: {n: float(np.mean(v)) for n, v in row.items()} for kind, row in found.items()}))


def _run(
    kind: str, seed: int, folder: Path, found: dict[str, dict[str, list[float]]], *, quiet: bool
) -> None:
    hospitals = write_phantom(folder / "dicom", SITES, PATIENTS[kind], seed, 0.5, kind)  # type: ignore[arg-type]
    best = optima_of(hospitals, kind) or {}  # type: ignore[arg-type]
    for network, seen in SEEN.items():
        sets = [f"seed={seed}", *SETTINGS, *PLANS[network]]
        plan = load_yaml(QUICKSTART, Scenario, sets).plan
        cohorts = [_cohort(hospital, folder / network / hospital.name, plan, seen) for hospital in hospitals]
        scores = _scores(plan, cohorts, hospitals, folder / network)
        found.setdefault(kind, {}).setdefault(network, []).append(scores[False])
        if kind == "relapse":
            found.setdefault("obvious", {}).setdefault(network, []).append(scores[True])
        if not quiet:
            told = f"{scores[False]:.3f} of at most {best[READS[network]]:.3f}"  # type: ignore[index]
            print(f"{kind}, seed {seed}, {network}: {told}; obvious {scores[True]:.3f}", flush=True)


def _cohort(hospital: Path, folder: Path, plan: Plan, seen: Callable[[Sequence], Sequence]) -> Path:
    collection = DicomFolder(hospital).read(plan.input.model_copy(update={"max_frames": 6}), plan.findings)
    some = replace(collection, sequences=[seen(s) for s in collection.sequences])
    build_cohort(folder, some, plan.input, plan.findings, b"key", "")
    return folder


def _scores(plan: Plan, cohorts: list[Path], hospitals: list[Path], folder: Path) -> dict[bool, float]:
    """AUROC on the test patients that are obvious (True) and that are not."""
    (folder / "plan.yaml").write_text(dump_yaml(plan))
    nodes = [
        {"site": c.name, "cohorts": str(c), "plan": str(folder / "plan.yaml"), "device": "cpu"}
        for c in cohorts
    ]
    model = build_model(plan)
    loop = RoundLoop(SequentialGrid(app, nodes), plan, wire.Schema.of(model), folder / "run", Silent())
    wire.set_weights(model, loop.run(wire.get_weights(model)).weights)
    scores: list[tuple[bool, float, float]] = []
    for path, hospital in zip(cohorts, hospitals, strict=True):
        cohort = Cohort.open(path)
        indices = cohort.split(plan.split)["test"]
        obvious = _obvious(hospital)
        p = predict(model, cohort, indices, torch.device("cpu"))[:, 0]
        for i, score in zip(indices, p, strict=True):
            scores.append((obvious[str(cohort.patients[i])], float(score), float(cohort.labels[i, 0])))
    values = np.array(scores)
    return {
        kind: metrics.evaluate(
            metrics.auroc, values[values[:, 0] == kind, 1], values[values[:, 0] == kind, 2]
        )
        for kind in (True, False)
    }


def _obvious(hospital: Path) -> dict[str, bool]:
    with (hospital / "truth.csv").open(newline="") as file:
        return {
            pseudonym(r["patient"], b"key"): r["kind"].startswith("obvious") for r in csv.DictReader(file)
        }


if __name__ == "__main__":
    main()
