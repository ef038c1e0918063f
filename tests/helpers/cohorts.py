"""Small cohorts of made-up patients."""

from pathlib import Path

import numpy as np
import torch

from client.imaging.cohort import build_cohort
from client.imaging.frames import InMemory
from client.imaging.outcome import Tally
from client.imaging.sequence import Collection, Frame, Sequence
from common.plan import Plan
from tests.helpers.plans import small_plan

CPU = torch.device("cpu")


def make_sequences(n: int, seed: int = 0, findings: int = 1, size: int = 16) -> list[Sequence]:
    """`n` patients; the positive ones have a bright corner in their last image."""
    rng = np.random.default_rng(seed)
    sequences = []
    for i in range(n):
        images = rng.uniform(0, 0.5, (int(rng.integers(1, 5)), size, size)).astype(np.float32)
        labels = np.full(findings, i % 2, np.float32)
        images[-1, :6, :6] += 0.5 * (i % 2)
        frames = tuple(Frame(3.0 * k, InMemory(image)) for k, image in enumerate(images))
        sequences.append(Sequence(f"patient-{seed}-{i}", frames, labels))
    return sequences


def make_cohort(folder: Path, n: int = 30, seed: int = 0, plan: Plan | None = None) -> Path:
    plan = plan or small_plan()
    build_cohort(
        folder,
        Collection(make_sequences(n, seed, len(plan.findings)), Tally()),
        plan.input,
        plan.findings,
        b"key",
        "stamp",
    )
    return folder
