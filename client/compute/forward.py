"""The one forward pass that judges: of evaluation, prediction and explanation, in one precision.

It is float32 on a GPU too: in bf16, eight bits of a logit are left, and what one visit changes in it is lost
in them.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from common.errors import RefusedError
from common.models import CNNLSTM


def logits_of(model: nn.Module, frames: Tensor, gaps: Tensor, lengths: Tensor) -> Tensor:
    """(B, K) float32 logits of padded sequences; with gradients where the caller asks for them.

    Shapes: frames (B, T, H, W) float in [0, 1], gaps (B, T), lengths (B,).
    """
    logits: Tensor = model(frames, gaps, lengths)
    return logits


def numbers_of(logits: Tensor) -> NDArray[np.float32]:
    """Logits off their device, of any shape.

    Raises:
        RefusedError: one is no number. Weights that are finite may be so large that what comes of them is
        not, and NaN would be ranked as if it were a score.
    """
    numbers: NDArray[np.float32] = logits.detach().cpu().numpy()
    if not np.isfinite(numbers).all():
        raise RefusedError("the model's weights are so large that its predictions here are no numbers (NaN)")
    return numbers


def attention_of(model: CNNLSTM, frames: Tensor, gaps: Tensor) -> Tensor:
    """(T,) the pooling's weights in one sequence of T real frames, (T, H, W) and (T,)."""
    lengths = torch.tensor([len(frames)])
    _, attention = model.explain(frames[None], gaps[None], lengths)
    return attention[0]
