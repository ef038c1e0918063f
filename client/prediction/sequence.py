"""One patient's sequence as a model sees it, and the functions of it that are explained."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from client.compute.forward import logits_of


@dataclass(frozen=True)
class Seen:
    """T frames on the model's device."""

    frames: Tensor  # (T, H, W) float32 in [0, 1]
    positions: Tensor  # (T,) float32 days (X-ray) or millimetres (CT) since the first

    @property
    def gaps(self) -> Tensor:
        """(T,) since the frame before; the first is 0."""
        return torch.diff(self.positions, prepend=self.positions[:1])

    def only(self, chosen: list[int]) -> "Seen":
        """The sequence as if the other frames had never been taken: gaps grow, the first frame is the first
        that is left."""
        return Seen(self.frames[chosen], self.positions[chosen])

    def __len__(self) -> int:
        return len(self.frames)


def logits(model: nn.Module, sequences: list[Seen]) -> Tensor:
    """(N, K) logits of several sequences in one padded batch."""
    lengths = torch.tensor([len(s) for s in sequences])
    frames = torch.nn.utils.rnn.pad_sequence([s.frames for s in sequences], batch_first=True)
    gaps = torch.nn.utils.rnn.pad_sequence([s.gaps for s in sequences], batch_first=True)
    return logits_of(model, frames, gaps, lengths)
