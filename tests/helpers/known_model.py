"""Models and sequences whose explanation is known."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from client.prediction.cases import Case
from client.prediction.explain.case import Explained, explain_case
from client.prediction.sequence import Seen
from common.handover import Handed
from common.plan import Input
from tests.helpers.cohorts import CPU
from tests.helpers.plans import small_plan

SIDE = 24


def sequence(t=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Seen(torch.rand(t, SIDE, SIDE, generator=generator), torch.tensor([0.0, 3.0, 5.0, 12.0, 20.0])[:t])


class Bright(nn.Module):
    """A "model" that says yes to brightness in one corner of the last image, minus that of the first."""

    def __init__(self):
        super().__init__()
        self.encoder = self.last_map = nn.Conv2d(1, 1, 1)

    def explain(self, frames, gaps, lengths):
        weights = nn.functional.one_hot(lengths - 1, frames.shape[1]).float()
        return self(frames, gaps, lengths), weights

    def forward(self, frames, gaps, lengths):
        flat = frames.reshape(-1, 1, SIDE, SIDE)
        frames = frames + 0 * self.encoder(flat).view_as(frames)  # Grad-CAM looks for a map
        corner = frames[:, :, 2:8, 14:20].mean((2, 3))
        last = corner.gather(1, lengths[:, None] - 1)
        return 10 * (last - corner[:, :1]).repeat(1, 2)


def spot(t=4, at=2):
    """A bright square in the corner from image `at` on."""
    frames = torch.full((t, SIDE, SIDE), 0.2)
    frames[at:, 2:8, 14:20] = 0.9
    return Seen(frames, torch.arange(t).float() * 2)


def explained(
    temperature: float = 1.0, *, upside_down: bool = False, finding: str = "pneumonia", **thresholds: float
) -> Explained:
    """All that is explained of the model `Bright` about a patient with a bright corner from the third visit on,
    or (`upside_down`) up to then; of the second finding, `effusion`, it says the same."""
    frames = spot().frames.flip(0) if upside_down else spot().frames
    pixels = (frames.numpy() * 255).astype(np.uint8)
    plan = small_plan(input=Input(size=SIDE, max_frames=4), findings=("pneumonia", "effusion"))
    handed = Handed(Path(), plan, {}, "", temperature, thresholds)
    case = Case("Smith", pixels, np.arange(4) * 2.0, ())
    return explain_case(handed, Bright().eval(), case, finding, CPU)
