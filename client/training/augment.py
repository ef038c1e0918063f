"""Random changes of training sequences. All frames of a sequence get the same one, so that what changes over
time stays."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from common.plan import Augmentation


def augment(frames: Tensor, settings: Augmentation, generator: torch.Generator) -> Tensor:
    """Shift, rotate, zoom, mirror, and change contrast and brightness.

    Args:
        frames: (B, T, H, W) float in [0, 1].
        generator: on the CPU; seven numbers a sequence are drawn from it, whatever the device and the
        settings.

    Returns:
        Frames of the same shape, in [0, 1]. The very tensor if the plan asks for no change.
    """
    if settings == Augmentation():
        return frames
    draw = (torch.rand(7, frames.shape[0], generator=generator) * 2.0 - 1.0).to(
        frames.device, non_blocking=True
    )
    if settings.shift or settings.rotate or settings.scale or settings.flip:
        frames = _move(frames, draw, settings)
    if settings.contrast or settings.brightness:
        gain = (1.0 + settings.contrast * draw[4]).view(-1, 1, 1, 1)
        lift = (settings.brightness * draw[5]).view(-1, 1, 1, 1)
        frames = ((frames - 0.5) * gain + 0.5 + lift).clamp(0.0, 1.0)
    return frames


def _move(frames: Tensor, draw: Tensor, settings: Augmentation) -> Tensor:
    """One affine map a sequence. Its frames are the channels of one sample, so they cannot drift apart."""
    angle = draw[0] * math.radians(settings.rotate)
    zoom = 1.0 + settings.scale * draw[1]
    mirror = torch.where(draw[6] < 0.0, -1.0, 1.0) if settings.flip else torch.ones_like(zoom)
    theta = torch.stack([
        torch.stack([mirror * zoom * angle.cos(), -zoom * angle.sin(), 2.0 * settings.shift * draw[2]], 1),
        torch.stack([mirror * zoom * angle.sin(), zoom * angle.cos(), 2.0 * settings.shift * draw[3]], 1),
    ], 1)  # fmt: skip
    grid = F.affine_grid(theta, list(frames.shape), align_corners=False)
    return F.grid_sample(frames, grid, padding_mode="border", align_corners=False)
