"""What a private threshold and temperature are worth, beside 0.5 and beside those that nobody hides.

`python benchmarks/private_threshold.py --data FILE.npz --json` -> {"auroc": [a seed each], "half": …,
"plain": …, "8.0": …, "3.0": …, "1.0": …}, each of these a list over --seeds of {"accuracy", "balanced",
"ece", "drowned"}, on test patients: at 0.5 and without a temperature; at those that the plan chooses on
validation patients without noise; and at those that the hospitals' noisy counts of the same patients
give at an epsilon, means over DRAWS releases. One model a seed, trained by
configs/pneumoniamnist-private.yaml with validation patients: what the epsilon of its training costs is
not looked at here. "drowned" is the share of releases that gave no threshold, where 0.5 is taken, as a
card does; "balanced" is the mean of sensitivity and specificity.
"""

import argparse
import json
import math
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from client.compute.device import choose_device, set_up_process
from client.governance.accounting import RoundCost
from client.imaging.cohort import Cohort
from client.training.evaluate import predictions
from client.training.private.counts import noisy_counts
from common import metrics, soft_counts, wire
from common.calibration import calibrate, fit_temperature, losses
from common.config import load_yaml, parse_overrides
from common.models import build_model
from common.plan import Plan
from common.scores import Predictions, choose_threshold
from pneumofed import simulate
from server.private_scores import pool_privately
from simulation.sites import COHORTS

CONFIG = Path(__file__).parents[1] / "configs" / "pneumoniamnist-private.yaml"
EPSILONS, DRAWS = (8.0, 3.0, 1.0), 20


def predicted(plan: Plan, run: Path, split: str) -> list[Predictions]:
    """Of each hospital's patients of a split, by the run's model."""
    model, device = build_model(plan), choose_device("cpu")
    wire.set_weights(model, load_file(run / "model.safetensors"))
    cohorts = [Cohort.open(folder) for folder in sorted((run / COHORTS).iterdir())]
    return [predictions(model, c, c.split(plan.split)[split], device) for c in cohorts]


def scored(test: Predictions, threshold: float, temperature: float) -> dict[str, float]:
    """On test patients."""
    cut = 0.5 if math.isnan(threshold) else threshold
    p, y = test.probabilities[:, 0], test.labels[:, 0]
    rates = [metrics.evaluate(metrics.rate_at(cut, label), p, y) for label in (0, 1)]
    return {
        "accuracy": metrics.evaluate(metrics.accuracy_at(cut), p, y),
        "balanced": sum(rates) / 2.0,
        "ece": metrics.evaluate(metrics.ece, calibrate(p, temperature), y),
        "drowned": float(math.isnan(threshold)),
    }


def released(plan: Plan, sites: list[Predictions], epsilon: float) -> tuple[float, float]:
    """Threshold and temperature from one release of the sites' counts."""
    assert plan.privacy is not None
    plan = plan.model_copy(update={"privacy": plan.privacy.model_copy(update={"epsilon": epsilon})})
    told = {}
    for k, p in enumerate(sites):
        exact = soft_counts.count(p.probabilities, p.labels, p.patients)
        cost = RoundCost.of_scores(plan, len(set(p.patients.tolist())))
        told[f"site-{k}"] = noisy_counts(exact, plan.findings, cost.noise)
    private = pool_privately(told, {}, plan).private
    assert private is not None
    return private.thresholds[plan.findings[0]].value, private.temperature.value


def measure(data: str, seed: int, out: Path, more: dict[str, object]) -> dict[str, object]:
    """One model, and what each way makes of it."""
    fixed = {"data.path": data, "seed": seed, "privacy.threshold": True}
    simulate(CONFIG, out, values={"split.validation": 0.15, **fixed, **more})
    plan = load_yaml(out / "plan.yaml", Plan)
    sites, test = predicted(plan, out, "validation"), Predictions.together(predicted(plan, out, "test"))
    validation = Predictions.together(sites)
    p = validation.probabilities.astype(np.float64)
    plain = fit_temperature(losses(np.log(p / (1.0 - p)), validation.labels))
    found: dict[str, object] = {
        "auroc": metrics.evaluate(metrics.auroc, test.probabilities[:, 0], test.labels[:, 0]),
        "half": scored(test, 0.5, math.nan),
        "plain": scored(test, choose_threshold(validation, plan), plain),
    }
    for epsilon in EPSILONS:
        draws = [scored(test, *released(plan, sites, epsilon)) for _ in range(DRAWS)]
        found[str(epsilon)] = {name: float(np.mean([d[name] for d in draws])) for name in draws[0]}
    return found


def main() -> None:
    """Each seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="PneumoniaMNIST's npz")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as in simulate")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    set_up_process()
    runs = []
    for seed in arguments.seeds:
        with tempfile.TemporaryDirectory() as place:
            runs.append(measure(arguments.data, seed, Path(place) / "run", parse_overrides(arguments.set)))
        if not arguments.json:
            print(seed, json.dumps(runs[-1]), flush=True)
    if arguments.json:
        print(json.dumps({name: [run[name] for run in runs] for name in runs[0]}))


if __name__ == "__main__":
    main()
