"""How far to believe an explanation: do the methods agree, does it depend on the model at all, and do its
regions matter?

Shown beside every explanation, not hidden.
"""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor, nn

from client.prediction.explain.where import OfFrames, Where, occlusion
from client.prediction.sequence import Seen
from common.models import CNNLSTM
from common.seeds import torch_generator

POINTS = 11
"""Of a deletion or insertion curve."""


@dataclass(frozen=True)
class Trust:
    """All on the scale of the thing itself: correlations in [-1, 1], probabilities in [0, 1]."""

    agreement: (
        float  # of integrated gradients (the mean over frames) with occlusion, rank correlation over pixels
    )
    agreement_cam: float  # of Grad-CAM with occlusion
    randomised: (
        float  # of the occlusion map with that of the same model with random weights: should be near 0
    )
    deletion: NDArray[
        np.float64
    ]  # (POINTS,) probability while the most salient pixels are replaced, most salient first
    insertion: NDArray[np.float64]  # (POINTS,) probability while they are put into the replaced image

    @property
    def deletion_area(self) -> float:
        """Mean of the curve: low is good."""
        return float(self.deletion.mean())

    @property
    def insertion_area(self) -> float:
        """Mean of the curve: high is good."""
        return float(self.insertion.mean())


def examine(model: CNNLSTM, seen: Seen, finding: int, where: Where, sign: float = 1.0) -> Trust:
    """Of one sequence's maps."""
    whole = where.occlusion
    other = occlusion(OfFrames(randomised(model), seen, finding, sign), seen)
    deletion, insertion = curves(OfFrames(model, seen, finding, sign), seen, whole)
    return Trust(
        correlation(where.integrated.mean(0), whole), correlation(where.grad_cam.mean(0), whole),
        correlation(other, whole),
        deletion, insertion,
    )  # fmt: skip


def correlation(one: Tensor, other: Tensor) -> float:
    """Rank correlation over pixels; 0 where a map is constant."""
    a, b = one.flatten().numpy(), other.flatten().numpy()
    if a.min() == a.max() or b.min() == b.max():
        return 0.0
    return float(spearmanr(a, b).statistic)


@torch.no_grad()
def randomised(model: CNNLSTM) -> CNNLSTM:
    """The same architecture with weights drawn anew, each tensor of its old spread.

    Adebayo et al., 2018, "Sanity Checks for Saliency Maps": what looks the same after it never explained the
    model.
    """
    other = copy.deepcopy(model)
    generator = torch_generator(0, "randomised")
    for parameter in other.parameters():
        spread = float(parameter.std(correction=0)) or 1.0
        parameter.copy_(torch.randn(parameter.shape, generator=generator).to(parameter.device) * spread)
    return other


@torch.inference_mode()
def curves(
    function: nn.Module, seen: Seen, saliency: Tensor
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Deletion and insertion (Petsiuk et al., 2018): the probability as growing shares of pixels are replaced
    by the mirror image.

    The share of pixels grows in POINTS steps from none to all, the most salient first, in all frames alike.
    """
    order = torch.argsort(saliency.flatten(), descending=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order))
    rank = rank.view_as(saliency).to(seen.frames.device)
    limits = np.linspace(0, len(order), POINTS).round().astype(int)
    gone = torch.stack([rank < int(limit) for limit in limits])[:, None]  # (POINTS, 1, H, W)
    frames, mirror = seen.frames[None], seen.frames.flip(2)[None]
    deleted, inserted = torch.where(gone, mirror, frames), torch.where(gone, frames, mirror)
    scores = function(torch.cat([deleted, inserted])).float().sigmoid().cpu().numpy().astype(np.float64)
    return scores[:POINTS], scores[POINTS:]
