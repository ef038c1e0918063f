"""What a pretrained start gives to hospitals with few patients.

`python benchmarks/transfer.py --json` -> {START: {HOW: {PATIENTS: [a test AUROC a seed]}}}. Two hospitals
of a few training and validation patients each, dealt from Kermany's X-rays (one image a patient), train
configs/pneumoniamnist.yaml with a narrower encoder at 28 pixels, from

- `random` weights;
- `phantom`: a federation of two synthetic hospitals trained the same network before, on single images;
- `others`: so did 600 other patients of the same hospital. That is the best a public set could be: it says
  what is to be had where the pretraining fits, not what one from elsewhere gives.

From these, all weights train (`all`), or the encoder stays and low-rank adapters train beside it
(`adapters`), or it stays as it is (`frozen`); in the last two the projection, the LSTM and the head train
too. All are scored on the same 600 patients, who are in no other part.
"""

import argparse
import hashlib
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from client.compute.device import set_up_process
from pneumofed import Run, simulate

ROOT = Path(__file__).resolve().parents[1]
PLAN = ROOT / "configs" / "pneumoniamnist.yaml"
BESIDE = ROOT.parent / "shared" / "data" / "kermany" / "kermany64_train.npz"
SITES, OTHERS, TEST = 2, 600, 600
COMMON = {
    "model.width": 16, "rounds": 12, "training.epochs": 2, "min_patients": 10, "split.test": 0.05,
    "split.validation": 0.1, "simulation.arms": [], "simulation.threads": 1,
}  # fmt: skip
HOW = {"all": {}, "adapters": {"model.adapters": 4}, "frozen": {"model.frozen_stages": 3}}


def dealt(npz: Path, out: Path, patients: list[int], seed: int) -> dict[str, Path]:
    """Files of the test patients, of the others, and of each number of patients a site; one image a patient.
    The few are among the many, and the classes are as they come."""
    with np.load(npz, allow_pickle=False) as whole:
        names, first = np.unique(whole["patient_id"], return_index=True)
        first = np.random.default_rng(seed).permutation(first)
        parts = {"test": first[:TEST], "others": first[TEST : TEST + OTHERS]}
        rest = first[TEST + OTHERS :]
        if len(rest) < SITES * max(patients):
            raise SystemExit(f"{npz}: {len(names)} patients leave {len(rest)} to deal out to {SITES} sites")
        parts |= {str(n): rest[: SITES * n] for n in patients}
        files = {name: out / f"{name}.npz" for name in parts}
        for name, chosen in parts.items():
            arrays = {key: whole[key][chosen] for key in ("images", "labels", "patient_id")}
            np.savez(files[name], **arrays)
    return files


def trained(out: Path, seed: int, data: dict[str, object], more: dict[str, object]) -> Run:
    """One federation of SITES equal hospitals."""
    return simulate(PLAN, out, values={"seed": seed, **COMMON, **data, **more})


def npz_data(file: Path) -> dict[str, object]:
    """Of a scenario."""
    return {"data.path": str(file), "data.partition.sites": SITES, "data.partition.alpha": None}


def from_file(run: Run) -> dict[str, object]:
    """A scenario's start from what a run left."""
    file = run.folder / "model.safetensors"
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    return {"model.pretrained": sha256, "simulation.pretrained": str(file)}


def of_seed(npz: Path, out: Path, patients: list[int], seed: int) -> dict[tuple[str, str, int], float]:
    """Every start and way, by the numbers of patients."""
    files, found = dealt(npz, out, patients, seed), {}
    phantom = {"data": {"source": "phantom", "sites": SITES, "patients": OTHERS // 4, "ambiguous": 0.0}}
    starts = {
        "random": {},
        "phantom": from_file(trained(out / "phantom", seed, phantom, {})),
        "others": from_file(trained(out / "others", seed, npz_data(files["others"]), {})),
    }
    for start, given in starts.items():
        for how, change in HOW.items() if given else [("all", {})]:
            for n in patients:
                run = trained(out / f"{start}-{how}-{n}", seed, npz_data(files[str(n)]), {**given, **change})
                (judged,) = run.model().evaluate(files["test"], part="all").findings.values()
                found[start, how, n] = round(judged.auroc, 4)
                print(seed, start, how, n, found[start, how, n], file=sys.stderr, flush=True)
    return found


def main() -> int:
    """Seed after seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--data", type=Path, default=BESIDE, metavar="FILE", help="Kermany, 64 x 64, .npz")
    parser.add_argument("--patients", type=int, nargs="+", default=[50, 200], help="at each hospital")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    asked = parser.parse_args()
    if not asked.data.is_file():
        print(f"{asked.data}: no such file; name Kermany's .npz with --data", file=sys.stderr)
        return 2
    set_up_process()
    table: dict[str, dict[str, dict[int, list[float]]]] = {}
    for seed in asked.seeds:
        with tempfile.TemporaryDirectory() as out:
            for (start, how, n), auroc in of_seed(asked.data, Path(out), asked.patients, seed).items():
                table.setdefault(start, {}).setdefault(how, {}).setdefault(n, []).append(auroc)
    if asked.json:
        print(json.dumps(table))
        return 0
    for start, ways in table.items():
        for how, by_number in ways.items():
            cells = (f"{n}: {np.mean(v):.3f} {v}" for n, v in by_number.items())
            print(f"{start:<8} {how:<9}", "  ".join(cells))
    return 0


if __name__ == "__main__":
    sys.exit(main())
