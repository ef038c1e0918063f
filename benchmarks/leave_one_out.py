"""How good is a model at a hospital that took no part in its training?

`python benchmarks/leave_one_out.py --json` -> {"hospitals": [five], "inside": [five], "outside": [five],
"accuracy": [five], "sensitivity": [five], "specificity": [five]}. The phantom's five hospitals have five
scanners and other shares of patients with pneumonia. For each of them the other four train by
configs/quickstart.yaml: "inside" is the AUROC on the test patients of those four together, "outside" that on
all patients of the one that was left out, which nobody trained on; the last three are there too, at the
threshold that was chosen inside. Means over --seeds.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path

from client.compute.device import set_up_process
from common.config import load_yaml, parse_overrides
from pneumofed import simulate
from simulation.cli import QUICKSTART
from simulation.phantom import SCANNERS, write_phantom
from simulation.scenario import PhantomData, Scenario

MEASURES = ("inside", "outside", "accuracy", "sensitivity", "specificity")


def left_out(hospitals: list[Path], out: Path, values: dict[str, object]) -> dict[str, float]:
    """The hospitals but the first train; the first judges."""
    others = out / "others"
    others.mkdir(parents=True)
    for folder in hospitals[1:]:
        (others / folder.name).symlink_to(folder)
    data = {"data": {"source": "dicom", "path": str(others)}, "simulation.arms": []}
    run = simulate(QUICKSTART, out / "run", values={**data, **values})
    (judged,) = run.model().evaluate(hospitals[0], part="all").findings.values()
    return {
        "inside": run.result.test.federated.auroc,
        "outside": judged.auroc,
        "accuracy": judged.accuracy,
        "sensitivity": judged.sensitivity,
        "specificity": judged.specificity,
    }


def main() -> None:
    """Leave each out once, for each seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--patients", type=int, help="at each hospital; as many as the quickstart has")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="as in pneumofed simulate"
    )
    arguments = parser.parse_args()
    set_up_process()
    data = load_yaml(QUICKSTART, Scenario).data
    assert isinstance(data, PhantomData)
    names = [f"{scanner.maker} {scanner.model}" for scanner in SCANNERS]
    found: dict[str, list[list[float]]] = {measure: [[] for _ in names] for measure in MEASURES}
    for seed in arguments.seeds:
        with tempfile.TemporaryDirectory() as place:
            patients = arguments.patients or data.patients
            hospitals = write_phantom(Path(place) / "hospitals", len(names), patients, seed, data.ambiguous)
            for k in range(len(names)):
                rotated = [*hospitals[k:], *hospitals[:k]]
                values = {"seed": seed, **parse_overrides(arguments.set)}
                for measure, value in left_out(rotated, Path(place) / str(k), values).items():
                    found[measure][k].append(value)
    means = {measure: [round(statistics.mean(v), 4) for v in values] for measure, values in found.items()}
    if arguments.json:
        print(json.dumps({"hospitals": names, **means}))
        return
    print(f"{'left out':<22}", *(f"{measure:>12}" for measure in MEASURES))
    for k, name in enumerate(names):
        print(f"{name:<22}", *(f"{means[measure][k]:>12.3f}" for measure in MEASURES))
    print(f"{'mean':<22}", *(f"{statistics.mean(means[measure]):>12.3f}" for measure in MEASURES))


if __name__ == "__main__":
    main()
