"""What is an estimated prevalence, and a correction for it, worth at another hospital?

`python benchmarks/prevalence.py` -> lines of JSON: {"seed", "scanners", "prevalence", "estimate", "low",
"high", "doubts", "brier": {"before", "given", "estimated"}, "ece": {…}}. configs/quickstart.yaml trains; then
others of the phantom's patients are asked about, drawn so that this share has pneumonia: on the scanners that
the model knows, where only the prevalence differs, and on the two that it does not, where more does. "given":
corrected for the true share; "estimated": for the one that is estimated without their labels.
"""

import argparse
import csv
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.compute.device import set_up_process
from client.prediction.predict import Prediction
from client.prediction.prevalence import asked, for_prevalence
from common import metrics
from common.config import parse_overrides
from common.handover import Handed, read_model
from pneumofed import simulate
from simulation.cli import QUICKSTART
from simulation.phantom import write_phantom

KNOWN = 3
"""Of the phantom's five scanners, those of the quickstart."""


def told(folder: Path) -> dict[str, float]:
    """Patient -> the label."""
    with (folder / "labels.csv").open(newline="") as file:
        return {row["patient"]: float(row["pneumonia"]) for row in csv.DictReader(file)}


def drawn(labels: NDArray[np.float64], n: int, share: float, rng: np.random.Generator) -> NDArray[np.intp]:
    """Places of n patients of whom this share has it."""
    sizes = {1.0: round(n * share), 0.0: n - round(n * share)}
    return np.concatenate([rng.choice(np.flatnonzero(labels == c), size, False) for c, size in sizes.items()])


def scored(rows: list[Prediction], labels: NDArray[np.float64]) -> tuple[float, float]:
    """Brier score and calibration error."""
    p = np.array([row.probabilities[0] for row in rows])
    return metrics.evaluate(metrics.brier, p, labels), metrics.evaluate(metrics.ece, p, labels)


def measured(handed: Handed, rows: list[Prediction], labels: NDArray[np.float64]) -> dict[str, object]:
    """Of some patients, before and after."""
    given, _ = for_prevalence(handed, rows, asked([str(labels.mean())], handed))
    estimated, shifts = for_prevalence(handed, rows, asked(["estimate"], handed))
    (shift,) = shifts.values()
    assert shift.found is not None
    found = shift.found.estimate
    scores = {"before": rows, "given": given, "estimated": estimated}
    both = {
        name: scored([r for r in some if isinstance(r, Prediction)], labels) for name, some in scores.items()
    }
    return {
        "prevalence": float(labels.mean()), "estimate": found.value, "low": found.low, "high": found.high,
        "doubts": list(shift.doubts), "brier": {name: one[0] for name, one in both.items()},
        "ece": {name: one[1] for name, one in both.items()},
    }  # fmt: skip


def of_seed(seed: int, arguments: argparse.Namespace, place: Path) -> Iterator[dict[str, object]]:
    """Every share, on known scanners and on others."""
    values = {"seed": seed, "simulation.arms": [], **parse_overrides(arguments.set)}
    run = simulate(QUICKSTART, place / "run", values=values)
    handed, model = read_model(run.folder), run.model()
    hospitals = write_phantom(place / "others", 5, arguments.patients, 1000 + seed)
    for scanners, folders in (("known", hospitals[:KNOWN]), ("other", hospitals[KNOWN:])):
        truth = {patient: label for folder in folders for patient, label in told(folder).items()}
        rows = [row for folder in folders for row in model.predict(folder).predictions]
        labels = np.array([truth[row.patient] for row in rows])
        for share in arguments.shares:
            rng = np.random.default_rng([seed, round(1000 * share)])
            chosen = drawn(labels, arguments.ask, share, rng)
            yield {
                "seed": seed, "scanners": scanners,
                **measured(handed, [rows[i] for i in chosen], labels[chosen]),
            }  # fmt: skip


def main() -> None:
    """Each seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--shares", type=float, nargs="+", default=[0.05, 0.15, 0.6])
    parser.add_argument("--patients", type=int, default=100, help="that are made at each hospital")
    parser.add_argument("--ask", type=int, default=100, help="of them that are drawn")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="as in pneumofed simulate"
    )
    arguments = parser.parse_args()
    set_up_process()
    for seed in arguments.seeds:
        with tempfile.TemporaryDirectory() as place:
            for one in of_seed(seed, arguments, Path(place)):
                print(json.dumps(one), flush=True)


if __name__ == "__main__":
    main()
