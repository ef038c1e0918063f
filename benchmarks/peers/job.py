"""The job that all systems do: the same model, the same images at the same sites, as many steps of SGD.

Needs torch, numpy, safetensors and the model alone: what else a system loads is its own.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import nn

from common.config import load_yaml
from common.models import CNNLSTM, build_model
from common.plan import Plan

ENDS, MODEL = "ends.txt", "model.safetensors"
"""When each round ended, in seconds, and the last weights, in the folder in which a system works."""


@dataclass(frozen=True)
class Job:
    """What lies in a job's folder: plan.yaml, and one .npz a site."""

    folder: Path

    @property
    def plan(self) -> Plan:
        """Plain training, no augmentation."""
        return load_yaml(self.folder / "plan.yaml", Plan)

    @property
    def sites(self) -> list[Path]:
        """In order."""
        return sorted(self.folder.glob("site-*.npz"))

    def model(self) -> nn.Module:
        """As the plan begins."""
        return build_model(self.plan)


class FromFolder(CNNLSTM):
    """The same, for who makes a model by its class and a text."""

    def __init__(self, folder: str) -> None:
        job = Job(Path(folder))
        super().__init__(job.plan.model, len(job.plan.findings))
        self.load_state_dict(job.model().state_dict())


def read(site: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Frames (N, 1, H, W) uint8 and labels (N, 1) float32 of a site's training patients."""
    with np.load(site) as data:
        return torch.from_numpy(data["frames"]), torch.from_numpy(data["labels"])


def inputs(frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What the model takes: grey values in [0, 1], gaps and lengths of sequences of one image."""
    n = len(frames)
    return frames.float().div_(255), torch.zeros(n, 1), torch.ones(n, dtype=torch.int64)


def train(model: nn.Module, site: Path, plan: Plan, round: int) -> int:
    """One site's part of a round, in place, as anybody would write it; returns its number of patients."""
    frames, labels = read(site)
    t = plan.training
    optimizer = torch.optim.SGD(model.parameters(), t.learning_rate, t.momentum, weight_decay=t.weight_decay)
    generator = torch.Generator().manual_seed(1000 * round + len(frames))
    model.train()
    for _ in range(t.epochs):
        for batch in torch.randperm(len(frames), generator=generator).split(t.batch_size):
            optimizer.zero_grad()
            logits = model(*inputs(frames[batch]))
            nn.functional.binary_cross_entropy_with_logits(logits, labels[batch]).backward()
            nn.utils.clip_grad_norm_(model.parameters(), t.clip_norm)
            optimizer.step()
    return len(frames)


def round_ended(work: Path) -> None:
    """Note the moment."""
    with (work / ENDS).open("a") as file:
        file.write(f"{time.time()}\n")


def finished(work: Path, weights: dict[str, Any]) -> None:
    """Leave the last weights, for a look whether the work was done."""
    save_file({name: np.ascontiguousarray(w, np.float32) for name, w in weights.items()}, work / MODEL)
