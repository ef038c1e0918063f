"""Do a patient's earlier visits help to judge the newest one, and could these patients show it?

`python benchmarks/serial_visits.py --data FOLDER/index.csv --json` -> {"patients", "changing", "visits",
"images_alone", "networks", "cnn_lstm_less"}: on real serial X-rays with a label a visit. Every patient is
judged by networks that did not see the patient (--folds, by patient), for each seed. "networks": AUROC of
all visits, the mean over --seeds, with its 95 % interval over patients; "images_alone" is that of the mere
number of images, which a network of sequences sees too. "cnn_lstm_less" each of the others: the paired
difference, the smallest true one that these patients would show, and how many patients, and among them
changing ones (whose label is not the same at all visits), would show --difference (simulation/power.py).
"""

import argparse
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from client.compute.device import set_up_process
from client.imaging.cohort import Cohort, build_cohort, pseudonym
from client.imaging.cohort.reading import Part
from client.imaging.frames import Frame
from client.imaging.sequence import Sequence
from client.training.evaluate import predict
from client.training.local import train_round
from common import metrics
from common.config import load_yaml
from common.models import build_model
from common.plan import Plan, Split
from common.seeds import numpy_generator
from simulation.power import patients_needed, smallest_shown
from simulation.scenario import Scenario

CONFIG = Path(__file__).parents[1] / "configs" / "serial-cxr.yaml"
KEY, RESAMPLES = b"serial visits", 2000
ONE = ("model.context=0", "input.max_frames=1")
PLANS: Mapping[str, tuple[str, ...]] = {
    "cnn_lstm": (), "shuffled_past": (), "last_image": ONE,
    "mean": ("model.recurrent=false", "model.context=0", "model.pooling=mean"),
}  # fmt: skip


def shuffled_past(sequence: Sequence) -> Sequence:
    """The earlier visits' images in an order of chance, at the same days; the newest visit's stay."""
    past = [frame for frame in sequence.frames if frame not in sequence.own]
    rng = numpy_generator(0, "shuffled", sequence.patient, repr(sequence.own[-1].position))
    order = rng.permutation(len(past))
    moved = [Frame(f.position, past[k].image) for f, k in zip(past, order, strict=True)]
    return replace(sequence, frames=(*moved, *sequence.own))


@dataclass(frozen=True)
class Visits:
    """What a network sees of all visits."""

    part: Part
    patients: NDArray[np.str_]  # (N,)
    labels: NDArray[np.float32]  # (N,)
    images: NDArray[np.int64]  # (N,)

    @classmethod
    def of(cls, network: str, scenario: Scenario, folder: Path) -> "Visits":
        """Each visit as a patient of its own, so that one may be shuffled otherwise than the next."""
        plan, (source,) = scenario.plan, scenario.sources().values()
        collection = source.read(plan.input, plan.findings)
        seen = shuffled_past if network == "shuffled_past" else lambda sequence: sequence
        whose = {f"{k:05d}": s.patient for k, s in enumerate(collection.sequences)}
        alone = [replace(seen(s), patient=k) for k, s in zip(whose, collection.sequences, strict=True)]
        build_cohort(folder, replace(collection, sequences=alone), plan.input, plan.findings, KEY, "")
        names = {pseudonym(k, KEY): patient for k, patient in whose.items()}
        cohort = Cohort.open(folder)
        patients = np.array([names[k] for k in cohort.patients.tolist()])
        return cls(Part.open(folder), patients, cohort.labels[:, 0], cohort.lengths)


class Fold(Cohort):
    """A cohort whose training sequences are told."""

    train: NDArray[np.intp]

    def split(self, split: Split) -> dict[str, NDArray[np.intp]]:
        """The others are test sequences."""
        others = np.setdiff1d(np.arange(len(self)), self.train)
        return {"train": self.train, "validation": others[:0], "test": others}


def out_of_fold(visits: Visits, plan: Plan, folds: int) -> NDArray[np.float64]:
    """(N,) of each visit the probability by a network that was trained without its patient."""
    names = numpy_generator(plan.seed, "folds").permutation(np.unique(visits.patients))
    fold_of = {name: k % folds for k, name in enumerate(names.tolist())}
    fold = np.array([fold_of[name] for name in visits.patients.tolist()])
    scores, device = np.full(len(fold), np.nan), torch.device("cpu")
    for k in range(folds):
        cohort, model = Fold([visits.part]), build_model(plan)
        cohort.train = np.flatnonzero(fold != k)
        for number in range(1, plan.rounds + 1):
            train_round(model, cohort, plan, "all", number, device)
        held_out = np.flatnonzero(fold == k)
        scores[held_out] = predict(model, cohort, held_out, device)[:, 0]
    return scores


def main() -> None:
    """Every network, every seed, every fold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--config", type=Path, default=CONFIG, help="a scenario of one data set")
    parser.add_argument("--data", required=True, help="its data.path")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--difference", type=float, default=0.02, help="of AUROC, whose price is told")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    set_up_process(1)
    found: dict[str, list[NDArray[np.float64]]] = {}
    seen: dict[str, Visits] = {}
    with tempfile.TemporaryDirectory() as place:
        for name, own in PLANS.items():
            sets = [f"data.path={arguments.data}", *arguments.set, *own]
            scenario = load_yaml(arguments.config, Scenario, sets)
            visits = seen[name] = Visits.of(name, scenario, Path(place) / name)
            if not np.array_equal(visits.patients, seen["cnn_lstm"].patients):
                raise SystemExit(f"{name}: lacks visits that others have (an image cannot be read)")
            for seed in arguments.seeds:
                plan = scenario.plan.model_copy(update={"seed": seed})
                found.setdefault(name, []).append(out_of_fold(visits, plan, arguments.folds))
                if not arguments.json:
                    score = metrics.evaluate(metrics.auroc, found[name][-1], visits.labels)
                    print(f"{name}, seed {seed}: {score:.3f}", flush=True)
    told = summary(found, seen["cnn_lstm"], arguments.difference)
    print(json.dumps(told, indent=None if arguments.json else 2))


def summary(
    found: dict[str, list[NDArray[np.float64]]], visits: Visits, difference: float
) -> dict[str, object]:
    """As the head of this file says."""
    labels, patients = visits.labels, visits.patients
    weights = metrics.resample_patients(patients, RESAMPLES, numpy_generator(0, "serial visits"))
    draws = {
        name: metrics.macro_draws(
            metrics.auroc, np.stack(scores, 1), np.tile(labels[:, None], len(scores)), weights
        )
        for name, scores in found.items()
    }
    n = len(set(patients.tolist()))
    changing = sum(len(np.unique(labels[patients == p])) > 1 for p in set(patients.tolist()))
    value, all_draws = draws["cnn_lstm"]
    less = {}
    for name in [name for name in found if name != "cnn_lstm"]:
        estimate = metrics.Estimate.of(value - draws[name][0], all_draws - draws[name][1])
        needed = patients_needed(estimate.error, n, difference)
        less[name] = {
            "difference": estimate.value, "ci": estimate.interval, "error": estimate.error,
            "would_show": smallest_shown(estimate.error), "patients_needed": needed,
            "changing_needed": int(np.ceil(needed * changing / n)),
        }  # fmt: skip
    networks = {
        name: {
            "auroc": draws[name][0], "ci": metrics.Estimate.of(*draws[name]).interval,
            "seeds": [metrics.evaluate(metrics.auroc, s, labels) for s in scores],
        }
        for name, scores in found.items()
    }  # fmt: skip
    return {
        "patients": n, "changing": changing, "visits": len(labels),
        "images_alone": metrics.evaluate(metrics.auroc, visits.images.astype(np.float64), labels),
        "networks": networks, "cnn_lstm_less": less,
    }  # fmt: skip


if __name__ == "__main__":
    main()
