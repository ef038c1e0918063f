"""What a GPU gives: a round's throughput over a bare loop, and what augmentation and privacy cost there.

    uv run python benchmarks/gpu.py --json     ->  {"card": …, "encoders": {NAME: {"throughput_ratio", …}}, …}

*Bare* is what a researcher would write by hand: batches that lie ready in pinned memory, autocast to bf16,
`torch.optim.SGD`. *Ours* is a site's round from its cohort on disk, with and without augmentation. Both are
interleaved; ratios are of medians. Correctness on a GPU is tested apart: `pytest -m gpu`.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from client.compute.batches import Batch, collate
from client.compute.device import set_up_process
from client.governance.accounting import RoundCost
from client.imaging.cohort import Cohort, build_cohort
from client.imaging.frames import Frame, InMemory
from client.imaging.outcome import Tally
from client.imaging.sequence import Collection, Sequence
from client.training.evaluate import predict_logits
from client.training.local import masked_loss, train_round
from client.training.private.round import train_private_round
from common.models import build_model
from common.plan import Augmentation, Input, Model, Plan, Privacy, Split, Training

FRAMES, BATCH = 6, 32
CASES = {
    "cnn3": ("cnn3", 64, 1024), "resnet18": ("resnet18", 64, 512), "resnet18 224 px": ("resnet18", 224, 128),
    "efficientnet_b0": ("efficientnet_b0", 64, 256),
}  # fmt: skip
"""Name: encoder, side in pixels, patients."""
STRONG = Augmentation(shift=0.12, rotate=15, scale=0.2, contrast=0.35, brightness=0.15)


def make_plan(encoder: str, side: int) -> Plan:
    """One epoch of SGD over all patients."""
    training = Training(epochs=1, batch_size=BATCH, learning_rate=0.01)
    return Plan.model_validate({
        "name": "gpu", "findings": ("pneumonia",), "seed": 1, "rounds": 1, "model": Model(encoder=encoder),
        "input": Input(size=side, max_frames=FRAMES), "split": Split(validation=0.0, test=0.01),
        "training": training,
    })  # fmt: skip


def make_cohort(folder: Path, plan: Plan, patients: int) -> Cohort:
    """Noise with a bright corner for the positives; six frames each."""
    rng, side = np.random.default_rng(0), plan.input.size
    sequences = []
    for i in range(patients):
        images = rng.uniform(0, 0.5, (FRAMES, side, side)).astype(np.float32)
        images[-1, : side // 3, : side // 3] += 0.5 * (i % 2)
        frames = tuple(Frame(3.0 * k, InMemory(image)) for k, image in enumerate(images))
        sequences.append(Sequence(f"p{i}", frames, np.array([i % 2], np.float32)))
    build_cohort(folder, Collection(sequences, Tally()), plan.input, plan.findings, b"key", "stamp")
    return Cohort.open(folder)


def seconds(work: Callable[[], object]) -> float:
    """Of one call, the device's work included."""
    torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - started


def interleaved(works: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each, taken in turns after two rounds that are not counted."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for k in range(repeats + 2):
        for name, work in works.items():
            spent = seconds(work)
            if k >= 2:
                times[name].append(spent)
    return {name: statistics.median(t) for name, t in times.items()}


def bare_epoch(plan: Plan, ready: list[Batch], device: torch.device) -> Callable[[], None]:
    """An epoch of a loop by hand, on a model of its own."""
    model = build_model(plan).to(device).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    weight = torch.ones(1, device=device)

    def epoch() -> None:
        for one in ready:
            batch = one.to(device)
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cuda", torch.bfloat16):
                logits = model(batch.frames, batch.gaps, batch.lengths)
            masked_loss(logits.float(), batch.labels, weight).backward()
            optimizer.step()

    return epoch


def our_round(plan: Plan, cohort: Cohort, device: torch.device) -> Callable[[], None]:
    """A site's round from its cohort."""
    model = build_model(plan).to(device)
    return lambda: train_round(model, cohort, plan, "site", 1, device)


def private_round(plan: Plan, cohort: Cohort, device: torch.device) -> Callable[[], None]:
    """As many private steps as an epoch has."""
    indices = cohort.split(plan.split)["train"]
    privacy = Privacy(noise_multiplier=1.0, delta=1e-4, steps=-(-len(indices) // BATCH), clip=1.0)
    plan = plan.model_copy(update={"privacy": privacy})
    model, cost = build_model(plan).to(device), RoundCost.of(plan, len(indices))
    return lambda: train_private_round(model, cohort, indices, plan, cost, 1, device=device)


def measure_rounds(name: str, device: torch.device, repeats: int) -> dict[str, float]:
    """Bare, ours, and private, of one encoder."""
    encoder, side, patients = CASES[name]
    plan = make_plan(encoder, side)
    moving = plan.model_copy(update={"training": plan.training.model_copy(update={"augmentation": STRONG})})
    with tempfile.TemporaryDirectory() as folder:
        cohort = make_cohort(Path(folder) / "cohort", plan, patients)
        order = cohort.split(plan.split)["train"]
        ready = [collate(cohort, order[k : k + BATCH]).pinned() for k in range(0, len(order), BATCH)]
        model = build_model(plan).to(device).eval()
        times = interleaved(
            {
                "bare": bare_epoch(plan, ready, device), "ours": our_round(plan, cohort, device),
                "augmented": our_round(moving, cohort, device),
                "private": private_round(plan, cohort, device),
                "judged": lambda: predict_logits(model, cohort, order, device),
            },
            repeats,
        )  # fmt: skip
    return {
        "throughput_ratio": times["bare"] / times["ours"],
        "augmented_ratio": times["bare"] / times["augmented"],
        "private_ratio": times["private"] / times["ours"], "bare_s": times["bare"],
        "sequences_per_s": len(order) / times["ours"], "judged_per_s": len(order) / times["judged"],
    }  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--case", choices=list(CASES), action="append")
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("this machine has no GPU that torch can use")
    set_up_process()
    device = torch.device("cuda:0")
    found = {name: measure_rounds(name, device, args.repeats) for name in args.case or CASES}
    result = {"card": torch.cuda.get_device_name(device), "torch": torch.__version__, "encoders": found}
    print(json.dumps(result, indent=None if args.json else 2))


if __name__ == "__main__":
    main()
