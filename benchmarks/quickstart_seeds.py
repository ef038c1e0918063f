"""The quickstart over data seeds: is one seed's number luck?

`python benchmarks/quickstart_seeds.py --json` -> {"federated": [five], "centralised": [five], "seconds": […]}
over the seeds 1 to 5 of configs/quickstart.yaml, or --seeds: test AUROCs, and seconds, centralised training
included.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

from client.compute.device import set_up_process
from common.config import load_yaml
from server.observer import Silent
from simulation import runs
from simulation.cli import QUICKSTART
from simulation.scenario import Machine, Scenario
from simulation.simulate import simulate


def main() -> None:
    """Run them one after another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="as in pneumofed simulate"
    )
    arguments = parser.parse_args()
    set_up_process()
    found: dict[str, list[float]] = {"federated": [], "centralised": [], "seconds": []}
    for seed in arguments.seeds:
        with tempfile.TemporaryDirectory() as out:
            scenario = load_yaml(QUICKSTART, Scenario, [f"seed={seed}", *arguments.set])
            scenario = scenario.model_copy(update={"simulation": Machine(arms=("centralised",))})
            began = time.perf_counter()
            runs.start(Path(out), scenario)
            arms = simulate(scenario, Path(out), lambda arm: Silent()).test
            found["seconds"].append(round(time.perf_counter() - began, 1))
            found["federated"].append(arms.federated.auroc)
            assert arms.centralised is not None
            found["centralised"].append(arms.centralised.auroc)
    if arguments.json:
        print(json.dumps(found))
        return
    for name, values in found.items():
        print(f"{name:<12}", "  ".join(f"{value:.3f}" for value in values))


if __name__ == "__main__":
    main()
