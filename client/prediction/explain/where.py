"""Which regions decided: Grad-CAM, integrated gradients and occlusion, all three by Captum.

What is compared with is the mirror image: at each place, what the same patient's other side shows. It keeps
exposure and anatomy, and takes out what is on one side only; a blurred or grey baseline is itself odd to a
model that looks at texture.

- *Grad-CAM* (Selvaraju et al., 2017) weighs the encoder's last feature maps by their gradients: one coarse
  map a frame.
- *Integrated gradients* (Sundararajan et al., 2017) from the mirror image to the image: one fine map a frame.
- *Occlusion* (Zeiler and Fergus, 2014): a small window is replaced by the mirror image in all frames at once,
  and the score's fall is noted. One map a sequence, and the only one of the three that asks the model a
  counterfactual question.
"""

from dataclasses import dataclass

import torch
from captum.attr import IntegratedGradients, LayerGradCam, Occlusion
from torch import Tensor, nn
from torch.nn import functional as F

from client.compute.forward import logits_of
from client.prediction.sequence import Seen
from common.models import CNNLSTM

STEPS = 16
"""Of integrated gradients."""
SMOOTH = 0.05
"""Standard deviation of the smoothing of integrated gradients and of their baseline, of a frame's side."""
WINDOW, STRIDE = 0.15, 0.0625
"""Side of the occluding window and its step, of a frame's side."""
AT_ONCE = 32
"""Windows in one forward pass."""


@dataclass(frozen=True)
class Where:
    """On the CPU, at least 0: regions that speak for the finding, or against it if that was asked."""

    grad_cam: Tensor  # (T, H, W)
    integrated: Tensor  # (T, H, W)
    occlusion: Tensor  # (H, W), of all frames together


class OfFrames(nn.Module):
    """One finding's logit, times `sign`, as a function of the frames alone: (B, T, H, W) -> (B,)."""

    def __init__(self, model: CNNLSTM, seen: Seen, finding: int, sign: float = 1.0) -> None:
        super().__init__()
        self.model, self.seen, self.finding, self.sign = model, seen, finding, sign

    def forward(self, frames: Tensor) -> Tensor:
        n, t = frames.shape[:2]
        lengths = torch.full((n,), t)
        logits = logits_of(self.model, frames, self.seen.gaps.expand(n, t), lengths)
        return self.sign * logits[:, self.finding]


def explain_where(model: CNNLSTM, seen: Seen, finding: int, sign: float = 1.0) -> Where:
    """All three maps; `sign` is -1 for what speaks against the finding."""
    function = OfFrames(model, seen, finding, sign)
    return Where(
        grad_cam(model, function, seen), integrated_gradients(function, seen), occlusion(function, seen)
    )


def grad_cam(model: CNNLSTM, function: OfFrames, seen: Seen) -> Tensor:
    """(T, H, W)."""
    maps = LayerGradCam(function, model.last_map).attribute(seen.frames[None])
    assert isinstance(maps, Tensor)
    heat = F.interpolate(F.relu(maps.detach()), seen.frames.shape[1:], mode="bicubic", align_corners=False)
    return heat[:, 0].clamp_min(0).cpu()


def integrated_gradients(function: OfFrames, seen: Seen) -> Tensor:
    """(T, H, W), smoothed."""
    frames = seen.frames[None]
    heat = IntegratedGradients(function).attribute(
        frames, baselines=blurred(frames.flip(3), SMOOTH), n_steps=STEPS
    )
    return F.relu(blurred(heat.detach().float(), SMOOTH))[0].cpu()


@torch.no_grad()
def occlusion(function: OfFrames, seen: Seen) -> Tensor:
    """(H, W): the mean fall of the score over the windows that cover a pixel."""
    frames = seen.frames[None]
    t, side = len(seen), seen.frames.shape[1]
    window, stride = max(2, round(WINDOW * side)), max(1, round(STRIDE * side))
    heat = Occlusion(function).attribute(
        frames, sliding_window_shapes=(t, window, window), strides=(t, stride, stride),
        baselines=frames.flip(3),
        perturbations_per_eval=AT_ONCE,
    )  # fmt: skip
    return F.relu(heat[0, 0].float()).cpu()


def blurred(frames: Tensor, share: float) -> Tensor:
    """(…, H, W) with a Gaussian blur of a standard deviation of `share` of the side; edges are repeated."""
    side = frames.shape[-1]
    deviation = share * side
    reach = min(int(3 * deviation) + 1, side - 1)
    x = torch.arange(-reach, reach + 1, device=frames.device, dtype=frames.dtype)
    kernel = torch.exp(-0.5 * (x / deviation) ** 2)
    kernel = kernel / kernel.sum()
    flat = frames.reshape(-1, 1, *frames.shape[-2:])
    flat = F.conv2d(F.pad(flat, (reach, reach, 0, 0), mode="replicate"), kernel.view(1, 1, 1, -1))
    flat = F.conv2d(F.pad(flat, (0, 0, reach, reach), mode="replicate"), kernel.view(1, 1, -1, 1))
    return flat.view_as(frames)
