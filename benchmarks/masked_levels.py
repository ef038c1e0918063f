"""What the coarse rounding of masked, coded updates (common/secure/levels.py) costs a small model's score.

`python benchmarks/masked_levels.py --json` -> {"float32": [AUROC by seed], "int8": […], "int4": […]}: FedAvg
of a perceptron (784, 32, 1) over PneumoniaMNIST, SGD of one epoch a round, sites of equal size whose shares
of pneumonia differ, error feedback as in client/coded.py. The smallest threshold that the sites allow. The
rest of the program is not in it.
"""

import argparse
import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from common import metrics
from common.plan import Aggregation, Codec, Plan
from common.secure.levels import Levels
from common.wire import Weights, get_weights, set_weights

BESIDE = Path(__file__).resolve().parents[2] / "shared/data/pneumoniamnist/pneumoniamnist_trainval.npz"


def main() -> None:
    """Each codec with each seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=BESIDE)
    parser.add_argument("--sites", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = {
        name: [round(trained(codec, seed, args), 4) for seed in args.seeds]
        for name, codec in (("float32", "none"), ("int8", "int8"), ("int4", "int4"))
    }
    print(json.dumps(found) if args.json else "\n".join(f"{k}: {v}" for k, v in found.items()))


def trained(codec: str, seed: int, args: argparse.Namespace) -> float:
    """AUROC on the fifth of the images that is held back."""
    images, labels = read(args.data, seed)
    n_test, rng = len(labels) // 5, np.random.default_rng(seed)
    order = np.argsort(labels[n_test:] + rng.normal(0, 1, len(labels) - n_test)) + n_test  # sites differ
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(784, 32), torch.nn.ReLU(), torch.nn.Linear(32, 1))
    aggregation = Aggregation(secure=True, threshold=args.sites // 2 + 1)
    plan = Plan(name="levels", codec=Codec(name=codec), aggregation=aggregation)
    weights, bounds = get_weights(model), None
    owed = [{name: np.zeros_like(w) for name, w in weights.items()} for _ in range(args.sites)]
    for number in range(args.rounds):
        levels = Levels.of(plan, {n: w.shape for n, w in weights.items()}, args.sites, bounds)
        updates = []
        for part in np.array_split(order, args.sites):
            set_weights(model, weights)
            fit(model, images[part], labels[part], np.random.default_rng([seed, number]))
            updates.append({name: w - weights[name] for name, w in get_weights(model).items()})
        if levels is None:
            mean = {name: np.mean([u[name] for u in updates], axis=0) for name in weights}
        else:
            mean, bounds = summed(levels, updates, owed, np.random.default_rng([seed, number, 1]))
        weights = {name: (w + mean[name]).astype(np.float32) for name, w in weights.items()}
    set_weights(model, weights)
    scores = model(images[:n_test]).detach().numpy().reshape(-1)
    return metrics.evaluate(metrics.auroc, scores, np.asarray(labels[:n_test]))


def summed(
    levels: Levels, updates: list[Weights], owed: list[Weights], rng: np.random.Generator
) -> tuple[Weights, dict[str, float] | None]:
    """The mean of the rounded updates, and the next bounds; `owed` is what rounding left."""
    total = np.zeros(1, np.uint64)
    for update, rest in zip(updates, owed, strict=True):
        whole = {name: value + rest[name] for name, value in update.items()}
        integers, told = levels.encode(whole, Fraction(1, len(updates)), rng)
        rest.update({name: whole[name] - told[name] for name in whole})
        total = total + integers
    mean = levels.decode(total, 1.0)
    return mean, levels.next_bounds(total, mean, 100.0) or None


def fit(model: torch.nn.Module, images: torch.Tensor, labels: np.ndarray, rng: np.random.Generator) -> None:
    """One epoch in batches of 32."""
    optimizer = torch.optim.SGD(model.parameters(), 0.05, 0.9)
    for batch in np.array_split(rng.permutation(len(labels)), max(1, len(labels) // 32)):
        optimizer.zero_grad()
        given = torch.from_numpy(labels[batch])
        torch.nn.functional.binary_cross_entropy_with_logits(model(images[batch])[:, 0], given).backward()
        optimizer.step()


def read(path: Path, seed: int) -> tuple[torch.Tensor, np.ndarray]:
    """Images (n, 784) from -1 to 1 and labels (n,), in an order of the seed."""
    with np.load(path) as file:
        images = np.concatenate([file["train_images"], file["val_images"]])
        labels = np.concatenate([file["train_labels"], file["val_labels"]]).reshape(-1).astype(np.float32)
    order = np.random.default_rng(seed).permutation(len(labels))
    return torch.from_numpy(images[order].reshape(-1, 784).astype(np.float32) / 127.5 - 1), labels[order]


if __name__ == "__main__":
    main()
