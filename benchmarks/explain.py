"""Explanations against the phantom's truth, and what they and predictions cost.

`python benchmarks/explain.py --json` -> {"pointing_game", "influential_visit", "seconds_per_patient",
"predict_ratio", …}: pointing_game: share of the ambiguous positives that the model finds whose occlusion map
is largest inside the true opacity of the last image. influential_visit: share of ambiguous positives whose
opacity grows at one known visit, and whose turning visit is that one. seconds_per_patient: all methods on 8
frames, after load. predict_ratio: `client predict` on a cohort of 1,000 sequences over the bare forward pass
on its batches (…_in_memory: on tensors that are there already), interleaved, medians. onnx_ratio: one patient
in onnxruntime over PyTorch. Beside them, for the record, the pointing game of each method on both kinds of
positives.

The model is trained first, federated, on the phantom: about two minutes.
"""

import argparse
import csv
import json
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from client.compute.batches import collate, in_batches
from client.compute.device import set_up_process
from client.imaging.cohort import Cohort, build_cohort, pseudonym
from client.imaging.frames import Frame, InMemory
from client.imaging.outcome import Tally
from client.imaging.pixels import fit
from client.imaging.sequence import Collection, Sequence
from client.prediction.cases import Case
from client.prediction.explain.case import explain_case
from client.prediction.explain.when import explain_when
from client.prediction.explain.where import explain_where
from client.prediction.model import load_model
from client.prediction.predict import predict_source
from common.handover import ONNX, Handed, read_model
from common.models import CNNLSTM
from common.plan import Augmentation, Input, Training
from server.export import export_run
from server.observer import Silent
from simulation import runs
from simulation.phantom import SCANNERS, Kind, Opacity, acquire, draw_chest
from simulation.scenario import Machine, PhantomData, Scenario
from simulation.simulate import simulate

CPU = torch.device("cpu")
SCENARIO = Scenario(
    name="explain", seed=1, rounds=16, input=Input(size=48, max_frames=8),
    training=Training(epochs=4, batch_size=8, learning_rate=0.05, augmentation=Augmentation(shift=0.05,
    contrast=0.1)),
    data=PhantomData(sites=3, patients=200), simulation=Machine(arms=()),
)  # fmt: skip
PATIENTS, REPEATS = 150, 25


def true_positives(run: Path, handed: Handed) -> Iterator[tuple[Case, str, list[Opacity]]]:
    """The test patients with an opacity: case, kind, and where it truly is in each image."""
    key = f"simulation:{handed.plan.seed}".encode()
    for site in sorted((run / "dicom").iterdir()):
        truth = defaultdict(list)
        with (site / "truth.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                truth[pseudonym(row["patient"], key)].append(row)
        cohort = Cohort.open(run / "cohorts" / site.name)
        for i in cohort.split(handed.plan.split)["test"]:
            rows = sorted(truth[str(cohort.patients[i])], key=lambda r: float(r["day"]))
            if Kind(rows[0]["kind"]).positive:
                spots = [Opacity(*(float(r[k]) for k in ("x", "y", "radius", "density"))) for r in rows]
                case = Case("p", cohort.frames(i), np.cumsum(cohort.gaps(i), dtype=np.float64), ())
                yield case, rows[0]["kind"], spots


def inside(heat: torch.Tensor, spot: Opacity) -> bool:
    """Whether the hottest pixel lies in the opacity."""
    side = heat.shape[-1]
    top, left = divmod(int(heat.argmax()), side)
    return float(np.hypot((left + 0.5) / side - spot.x, (top + 0.5) / side - spot.y)) <= spot.radius


def pointing_games(run: Path, handed: Handed, model: CNNLSTM) -> dict[str, dict[str, float]]:
    """Kind -> method -> share of hits in the last image, of the patients whom the model calls positive."""
    hits: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for case, kind, spots in true_positives(run, handed):
        seen = case.seen(CPU)
        if float(explain_when(model, seen, 0).running[-1]) < 0:
            continue
        maps = explain_where(model, seen, 0)
        for method, heat in (
            ("occlusion", maps.occlusion),
            ("integrated_gradients", maps.integrated[-1]),
            ("grad_cam", maps.grad_cam[-1]),
        ):
            hits[kind, method].append(inside(heat, spots[-1]))
    kinds = sorted({kind for kind, _ in hits})
    return {kind: {m: statistics.mean(hits[k, m]) for k, m in hits if k == kind} for kind in kinds}


def sudden(number: int, side: int) -> tuple[Case, int]:
    """A patient whose small opacity grows to its full size at one visit, and which."""
    rng, scanner = np.random.default_rng(number), SCANNERS[number % 3]
    n = int(rng.integers(4, 7))
    days, chest, visit = (
        np.cumsum(np.r_[0.0, rng.uniform(1, 6, n - 1)]),
        draw_chest(scanner.side, rng),
        int(rng.integers(1, n)),
    )
    x, y = 0.5 + rng.choice([-1.0, 1.0]) * rng.uniform(0.13, 0.25), rng.uniform(0.34, 0.66)
    small, large, density = rng.uniform(0.3, 0.55), rng.uniform(0.07, 0.12), rng.uniform(0.30, 0.45)
    radii = large * np.where(np.arange(n) < visit, small, 1.0) * rng.normal(1.0, 0.03, n)
    images = [acquire(chest, Opacity(x, y, float(r), density), scanner, rng) for r in radii]
    return Case("p", np.stack([fit(i, side, 8) for i in images]), days, ()), visit


def influential_visits(handed: Handed, model: CNNLSTM) -> float:
    """Share of the sudden patients, of those called positive, whose turning visit is the true one."""
    right = []
    for number in range(PATIENTS):
        case, visit = sudden(number, handed.plan.input.size)
        when = explain_when(model, case.seen(CPU), 0)
        if float(when.running[-1]) > 0:
            right.append(when.turning(1.0) == visit)
    assert len(right) > PATIENTS / 2, "the model does not know growth"
    return statistics.mean(right)


def seconds(work: Callable[[], object]) -> float:
    """How long `work` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def eight_frames(handed: Handed) -> Case:
    """A patient of eight images."""
    rng = np.random.default_rng(0)
    size = handed.plan.input.size
    return Case("p", rng.integers(0, 255, (8, size, size), dtype=np.uint8), 3.0 * np.arange(8), ())


def predict_ratios(handed: Handed, model: CNNLSTM, folder: Path) -> tuple[float, float]:
    """`client predict` over the bare forward pass on a cohort's batches, and on tensors that are in memory
    already."""
    rng, contract = np.random.default_rng(1), handed.plan.input
    images = rng.random((4, contract.size, contract.size)).astype(np.float32)
    sequences = [
        Sequence(
            f"p{i}", tuple(Frame(float(k), InMemory(images[k])) for k in range(4)), np.zeros(1, np.float32)
        )
        for i in range(1000)  # type: ignore[misc]
    ]
    build_cohort(folder, Collection(sequences, Tally()), contract, handed.plan.findings, b"k", "s")
    cohort = Cohort.open(folder)
    batches = [collate(cohort, np.arange(k, min(k + 64, 1000))).to(CPU) for k in range(0, 1000, 64)]

    @torch.inference_mode()
    def from_cache() -> None:
        for batch in in_batches(cohort, np.arange(1000), 64, CPU):
            model(batch.frames, batch.gaps, batch.lengths)

    @torch.inference_mode()
    def in_memory() -> None:
        for batch in batches:
            model(batch.frames, batch.gaps, batch.lengths)

    def whole() -> None:
        predict_source(handed, model, folder, CPU, Tally())

    works = (whole, from_cache, in_memory)
    for work in works:
        work()
    rounds = [[seconds(work) for work in works] for _ in range(REPEATS)]
    ours, cached, memory = (statistics.median(r[k] for r in rounds) for k in range(3))
    return ours / cached, ours / memory


def onnx_ratio(handed: Handed, model: CNNLSTM, folder: Path) -> float:
    """One patient of eight frames."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(folder / ONNX), options, providers=["CPUExecutionProvider"])
    seen = eight_frames(handed).seen(CPU)
    fed = {"frames": seen.frames[None].numpy(), "gaps": seen.gaps[None].numpy()}

    @torch.inference_mode()
    def ours() -> None:
        for _ in range(50):
            model(seen.frames[None], seen.gaps[None], torch.tensor([8]))

    def theirs() -> None:
        for _ in range(50):
            session.run(["logits"], fed)

    ours()
    theirs()
    pairs = [(seconds(theirs), seconds(ours)) for _ in range(REPEATS)]
    return statistics.median(t for t, _ in pairs) / statistics.median(o for _, o in pairs)


def main() -> None:
    """Train, explain, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path, help="keep the run here, and use it again")
    arguments = parser.parse_args()
    set_up_process()
    with tempfile.TemporaryDirectory() as temporary:
        run = arguments.out or Path(temporary) / "run"
        run.mkdir(parents=True, exist_ok=True)
        if not (run / runs.SCENARIO).exists():
            runs.start(run, SCENARIO)
        if not runs.is_finished(run):
            simulate(SCENARIO, run, lambda arm: Silent())
        folder = export_run(run, Path(temporary) / "model", None)
        handed = read_model(folder)
        model = load_model(handed, CPU)
        games = pointing_games(run, handed, model)
        cached, memory = predict_ratios(handed, model, Path(temporary) / "cohort")
        case = eight_frames(handed)
        explain_case(handed, model, case, handed.plan.findings[0], CPU)
        found: dict[str, Any] = {
            "pointing_game": games[Kind.GROWING.value]["occlusion"],
            "influential_visit": influential_visits(handed, model),
            "seconds_per_patient": statistics.median(
                seconds(lambda: explain_case(handed, model, case, handed.plan.findings[0], CPU))
                for _ in range(REPEATS)
            ),
            "predict_ratio": cached,
            "predict_ratio_in_memory": memory,
            "onnx_ratio": onnx_ratio(handed, model, folder),
            "pointing_games": games,
        }
    print(json.dumps(found, indent=None if arguments.json else 2))


if __name__ == "__main__":
    main()
