"""Which visits or slices decided: attention, the score after each, and what each one's absence would
change."""

from dataclasses import dataclass

import torch
from torch import Tensor

from client.compute.forward import attention_of, numbers_of
from client.prediction.sequence import Seen, logits
from common.models import CNNLSTM


@dataclass(frozen=True)
class When:
    """T numbers each, on the CPU; of one finding, in logits."""

    # the pooling's weights: they sum to 1; how much a frame is listened to, not in which direction
    attention: Tensor
    running: Tensor  # the logit after the first t + 1 frames: what the model would have said on that day
    influence: (
        Tensor  # logit of all frames minus that without the frame: positive frames speak for the finding
    )

    def turning(self, sign: float) -> int:
        """The visit at which the score moved most up (`sign` 1, of a yes) or down (-1); 0 for a single
        image."""
        return 1 + int((sign * self.running.diff()).argmax()) if len(self.running) > 1 else 0


@torch.inference_mode()
def explain_when(model: CNNLSTM, seen: Seen, finding: int) -> When:
    """2 T sequences in one batch. A sequence of one has no influence: without its only image nothing is left
    to judge."""
    n = len(seen)
    attention = attention_of(model, seen.frames, seen.gaps)
    beginnings = [seen.only(list(range(t + 1))) for t in range(n)]
    without = [seen.only([i for i in range(n) if i != t]) for t in range(n)] if n > 1 else []
    scores = torch.from_numpy(numbers_of(logits(model, beginnings + without)))[:, finding]
    influence = scores[n - 1] - scores[n:] if n > 1 else torch.zeros(1)
    return When(attention.cpu(), scores[:n], influence)
