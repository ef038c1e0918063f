"""The source's claim: a CNN-LSTM sees in a sequence what the same encoder does not see in its images.

`python benchmarks/sequence_claim.py --json` -> {"ambiguous": {"cnn_lstm", "mean", "last_image"}, "obvious":
{…}}: test AUROC of federated models, means over the seeds of `pneumofed study sequences`, which it runs (or
takes as it is, if --out holds it).
"""

import argparse
import json
import tempfile
from pathlib import Path

from client.compute.device import set_up_process
from server.rounds import Silent
from simulation.study import load_study, run_study

MODELS = {"cnn_lstm": "CNN-LSTM", "mean": "mean of images", "last_image": "last image"}


def main() -> None:
    """Run the study and print its means."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path, help="keep the runs here, and resume them")
    arguments = parser.parse_args()
    set_up_process()
    name, study = load_study("sequences")
    with tempfile.TemporaryDirectory() as temporary:
        found = run_study(
            name, study, arguments.out or Path(temporary), False, {}, lambda run: lambda arm: Silent()
        )
    means = {
        kind: {
            short: found["variants"][f"{kind}, {model}"]["federated"]["mean"]
            for short, model in MODELS.items()
        }
        for kind in ("ambiguous", "obvious")
    }
    if arguments.json:
        print(json.dumps(means))
        return
    for kind, row in means.items():
        print(kind, "  ".join(f"{model} {value:.3f}" for model, value in row.items()))


if __name__ == "__main__":
    main()
