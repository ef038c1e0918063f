"""The model without padding: sequences of one length, all frames real. What is exported to ONNX.

Padding is made of data-dependent shapes that other runtimes do not know; a prediction of one patient needs
none.
"""

import copy
from typing import cast

import torch
from torch import Tensor, nn

from common.models.cnn_lstm import CNNLSTM, GAP_SCALE, standardise, weighted_sum
from common.models.encoders import averaging


class WholeSequences(nn.Module):
    """As CNNLSTM.explain, for B sequences of T real frames each.

    Shapes: frames (B, T, H, W) float in [0, 1], gaps (B, T) -> logits (B, K), weights of the frames (B, T).
    """

    def __init__(self, model: CNNLSTM, side: int) -> None:
        """`side`: height and width of a frame. The model is copied, and its averaging over a grid written out
        as a product."""
        super().__init__()
        self.model = copy.deepcopy(model).eval()
        self.offsets = [
            0,
            *range(-1, -model.context - 1, -1),
            *(range(1, model.context + 1) if model.two_sided else ()),
        ]
        _write_out_pools(self.model.encoder, len(self.offsets), side)

    def forward(self, frames: Tensor, gaps: Tensor) -> tuple[Tensor, Tensor]:
        model, (n, t) = self.model, frames.shape[:2]
        places = torch.arange(t, device=frames.device)
        last = places[-1]
        around = [
            frames_at(standardise(frames), (places + offset).clamp(min=0), last) for offset in self.offsets
        ]
        rows: Tensor = model.encoder(torch.stack(around, 2).flatten(0, 1))
        embeddings = (rows if model.scale is None else model.scaled(rows)).view(n, t, -1)
        lengths = torch.ones_like(gaps[:, 0], dtype=torch.int64) * t
        valid = torch.ones_like(gaps, dtype=torch.bool)
        if model.lstm is None:
            weights = model.pool(embeddings, valid, lengths)
            pooled = weighted_sum(weights, embeddings)
        else:
            gap = (torch.log1p(gaps) / GAP_SCALE).unsqueeze(2)
            states = model.lstm(torch.cat([embeddings, gap], 2) if model.time_gap else embeddings)[0]
            weights = model.pool(states, valid, lengths)
            pooled = torch.cat([weighted_sum(weights, states), weighted_sum(weights, embeddings)], 1)
        return model.head(pooled), weights


def frames_at(frames: Tensor, places: Tensor, last: Tensor) -> Tensor:
    """(B, T, H, W) with frame `places[t]` at t, the last one beyond the end."""
    return frames.index_select(1, torch.minimum(places, last))


class _GridPool(nn.Module):
    """nn.AdaptiveAvgPool2d for one size of input, as two matrix products."""

    def __init__(self, size: int, grid: int) -> None:
        super().__init__()
        self.register_buffer("weights", averaging(size, grid))

    def forward(self, x: Tensor) -> Tensor:
        weights = cast(Tensor, self.weights)
        return weights @ x @ weights.T


def _write_out_pools(encoder: nn.Module, channels: int, side: int) -> None:
    """Replace each averaging over a grid of more than one place by _GridPool; sizes are found by a forward
    pass."""
    sizes: dict[str, int] = {}
    pools = {
        name: m
        for name, m in encoder.named_modules()
        if isinstance(m, nn.AdaptiveAvgPool2d) and m.output_size not in (1, (1, 1))
    }
    hooks = [
        m.register_forward_pre_hook(lambda _, x, name=name: sizes.update({name: x[0].shape[-1]}))
        for name, m in pools.items()
    ]
    with torch.no_grad():
        encoder(torch.zeros(1, channels, side, side))
    for hook in hooks:
        hook.remove()
    for name, pool in pools.items():
        parent, _, leaf = name.rpartition(".")
        grid = pool.output_size
        assert isinstance(grid, int)  # ours are square
        setattr(encoder.get_submodule(parent), leaf, _GridPool(sizes[name], grid))
