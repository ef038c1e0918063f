"""What a codec saves on the wire, and what it costs in the model's score.

`python benchmarks/wire.py --json` -> {"bytes_ratio", "auroc_loss", …}: configs/pneumoniamnist.yaml over three
seeds, with the codec and without. The first is all bytes of a run, up and down, evaluations included, over
those that float32 weights need once down and once up a round; the second is how much lower the test AUROC of
all patients is, the mean over seeds; below zero, higher.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from client.compute.device import set_up_process
from common.config import load_yaml
from common.results.run import RunResult
from server.observer import Silent
from simulation import runs
from simulation.scenario import Scenario
from simulation.simulate import simulate

ROOT = Path(__file__).resolve().parents[1]
PLAN = ROOT / "configs" / "pneumoniamnist.yaml"
BESIDE = ROOT.parent / "shared" / "data" / "pneumoniamnist" / "pneumoniamnist_trainval.npz"


def main() -> int:
    """Each seed with and without, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=BESIDE, metavar="FILE", help="PneumoniaMNIST, .npz")
    parser.add_argument("--plan", type=Path, default=PLAN, metavar="FILE", help="of another, without --data")
    parser.add_argument("--codec", default="int4")
    parser.add_argument("--top", type=float, default=1.0, help="share of an update's numbers that is sent")
    parser.add_argument("--secure", type=int, metavar="THRESHOLD", help="sum the coded updates under masks")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="as in pneumofed simulate"
    )
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    is_own = asked.plan == PLAN
    if is_own and not asked.data.is_file():
        print(f"{asked.data}: no such file; name PneumoniaMNIST's .npz with --data", file=sys.stderr)
        return 2
    set_up_process()
    changes = [*([f"data.path={asked.data}"] if is_own else []), "simulation.arms=[]", *asked.set]
    coded = [f"codec.name={asked.codec}", f"codec.top={asked.top}"]
    if asked.secure:
        coded += ["aggregation.secure=true", f"aggregation.threshold={asked.secure}"]
    plain_runs = [run(asked.plan, [*changes, f"seed={seed}"]) for seed in asked.seeds]
    coded_runs = [run(asked.plan, [*changes, *coded, f"seed={seed}"]) for seed in asked.seeds]
    ratios = [
        (ours.bytes.down + ours.bytes.up) / (2 * plain.bytes.up)
        for plain, ours in zip(plain_runs, coded_runs, strict=True)
    ]
    scores = {"float32": scores_of(plain_runs), asked.codec: scores_of(coded_runs)}
    losses = np.subtract(scores["float32"], scores[asked.codec])
    found = {
        "bytes_ratio": round(float(np.mean(ratios)), 4),
        "auroc_loss": round(float(np.mean(losses)), 4),
        "auroc": scores,
        "seeds": asked.seeds,
    }
    print(json.dumps(found) if asked.json else "\n".join(f"{k:<12} {v}" for k, v in found.items()))
    return 0


def run(plan: Path, changes: list[str]) -> RunResult:
    """One simulation in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory() as out:
        scenario = load_yaml(plan, Scenario, changes)
        runs.start(Path(out), scenario)
        return simulate(scenario, Path(out), lambda arm: Silent())


def scores_of(results: list[RunResult]) -> list[float]:
    """Test AUROC over all hospitals' patients."""
    return [round(result.test.federated.auroc, 4) for result in results]


if __name__ == "__main__":
    sys.exit(main())
