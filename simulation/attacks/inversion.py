"""Gradient inversion: an attempt to draw a patient's images from one update (Geiping et al., 2020, "Inverting
Gradients").

The worst case for the patient: a step on this patient alone, at weights that the attacker knows, labels and
lengths known too.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from client.compute.batches import Batch, collate
from client.imaging.cohort import Cohort
from client.training.private.gradients import PrivateGradients
from client.training.private.patients import Patients
from client.training.private.round import add_noise, sequence_loss
from common.models import CNNLSTM, build_model
from common.models.cnn_lstm import standardise
from common.plan import Plan

STEPS, RATE, SMOOTHNESS = 600, 0.05, 0.5
Pictures = NDArray[np.float32]


@dataclass(frozen=True)
class Attempt:
    """What was drawn from one update."""

    frames: Pictures  # (T, H, W), standardised
    likeness: float
    """Correlation with the true frames over all pixels: 1 the same, 0 nothing in common."""


def invert(
    plan: Plan, cohort: Cohort, sequence: int, deviation: float | None, seed: int, device: torch.device
) -> Attempt:
    """Draw sequence `sequence` of the cohort from the gradient of one step on it.

    Args:
        deviation: of the private step's noise, relative to the clipping bound; None for a step without
        privacy.
        seed: of the first guess and of the noise.
    """
    model = build_model(plan).to(device)
    batch = collate(cohort, np.array([sequence])).to(device)
    if deviation is None:
        target = [g.detach() for g in _gradients(model, batch, batch.frames, create_graph=False)]
    else:
        target = _private_gradients(model, batch, plan, deviation, torch.Generator(device).manual_seed(seed))
    guess = (
        torch.randn(batch.frames.shape, generator=torch.Generator().manual_seed(seed))
        .to(device)
        .requires_grad_()
    )
    drawn, truth = standardise(_draw(model, batch, target, guess)), standardise(batch.frames)
    return Attempt(drawn[0].cpu().numpy(), float((truth * drawn).mean()))


def true_frames(cohort: Cohort, sequence: int) -> Pictures:
    """(T, H, W) the frames as the model sees them, standardised."""
    pictures: Pictures = standardise(collate(cohort, np.array([sequence])).to(torch.device("cpu")).frames)[
        0
    ].numpy()
    return pictures


def _draw(model: CNNLSTM, batch: Batch, target: list[Tensor], guess: Tensor) -> Tensor:
    """Change the guess until its gradient points where the target does: signed steps with momentum, as in the
    paper."""
    pace = torch.zeros_like(guess)
    for step in range(STEPS):
        gradients = _gradients(model, batch, guess, create_graph=True)
        loss = 1.0 - _cosine(gradients, target) + SMOOTHNESS * _roughness(guess)
        (direction,) = torch.autograd.grad(loss, [guess])
        pace.mul_(0.9).add_(direction.sign(), alpha=0.1)
        with torch.no_grad():
            guess -= RATE * 0.5 * (1.0 + math.cos(math.pi * step / STEPS)) * pace
    return guess.detach()


def _gradients(model: CNNLSTM, batch: Batch, frames: Tensor, create_graph: bool) -> tuple[Tensor, ...]:
    loss = sequence_loss(model(frames, batch.gaps, batch.lengths), batch.labels).sum()
    return torch.autograd.grad(
        loss, [p for p in model.parameters() if p.requires_grad], create_graph=create_graph
    )


def _private_gradients(
    model: CNNLSTM, batch: Batch, plan: Plan, deviation: float, generator: torch.Generator
) -> list[Tensor]:
    assert plan.privacy is not None
    engine = PrivateGradients(model, plan.privacy.clip)
    engine.accumulate(
        Patients(batch, torch.zeros(1, dtype=torch.int64, device=batch.frames.device), 1), sequence_loss
    )
    engine.detach()
    trained: list[Tensor] = [p for p in model.parameters() if p.requires_grad]
    add_noise(trained, deviation * plan.privacy.clip, 1, generator)
    gradients = [p.grad for p in trained if p.grad is not None]
    for p in trained:
        p.grad = None
    return gradients


def _cosine(one: tuple[Tensor, ...], other: list[Tensor]) -> Tensor:
    product = torch.stack([(a * b).sum() for a, b in zip(one, other, strict=True)]).sum()
    lengths = [torch.stack([g.square().sum() for g in gradients]).sum().sqrt() for gradients in (one, other)]
    return product / (lengths[0] * lengths[1] + 1e-12)


def _roughness(frames: Tensor) -> Tensor:
    """Total variation, a mean over pixels."""
    return (frames[..., 1:, :] - frames[..., :-1, :]).abs().mean() + (
        frames[..., :, 1:] - frames[..., :, :-1]
    ).abs().mean()
