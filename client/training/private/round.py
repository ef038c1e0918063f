"""One site's part of one private round: Poisson-sampled patients, clipped, summed, noised; then an ordinary
optimiser step."""

import secrets
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from opacus.utils.uniform_sampler import UniformWithReplacementSampler
from torch import Tensor
from torch.nn import functional as F

from client.governance.accounting import RoundCost
from client.imaging.cohort import Cohort
from client.training.augment import augment
from client.training.local import Trained, add_proximal_gradient
from client.training.optimizer import Optimizer
from client.training.private.gradients import PrivateGradients
from client.training.private.patients import Patients, in_chunks, sequences_by_patient
from client.training.schedule import rate_factor
from common.models.cnn_lstm import CNNLSTM
from common.plan import Plan


def train_private_round(
    model: CNNLSTM,
    cohort: Cohort,
    indices: NDArray[np.intp],
    plan: Plan,
    cost: RoundCost,
    round: int,
    *,
    device: torch.device,
) -> Trained:
    """Train `model` in place for the plan's steps on the training sequences `indices`.

    Who is sampled, the augmentation and the noise come from generators that the operating system seeds:
    nobody who knows the plan can repeat them. The loss is not reported.
    """
    privacy, started = plan.privacy, time.perf_counter()
    assert privacy is not None
    patients = sequences_by_patient(cohort, indices, privacy.max_sequences)
    secret = torch.Generator().manual_seed(secrets.randbits(63))
    noise_source = torch.Generator(device).manual_seed(secrets.randbits(63))
    sampler = UniformWithReplacementSampler(
        num_samples=len(patients), sample_rate=cost.sample_rate, generator=secret, steps=cost.steps
    )
    optimizer = Optimizer(
        model.parameters(), plan.training.model_copy(update={"clip_norm": None})
    )  # privacy.clip is the bound
    mu = plan.strategy.option("proximal_mu")
    anchor = [p.detach().clone() for p in optimizer.parameters] if mu else None
    engine = PrivateGradients(model, privacy.clip)
    model.train()
    try:
        for k, chosen in enumerate(sampler):
            optimizer.zero_grad()
            if chosen:  # an empty batch still gets noise, and still counts
                drawn = [patients[i] for i in chosen]
                sum_clipped(engine, partial(in_chunks, cohort, drawn, privacy.chunk, device), plan, secret)
            add_noise(optimizer.parameters, cost.noise * privacy.clip, plan.training.batch_size, noise_source)
            if anchor is not None:
                add_proximal_gradient(optimizer.parameters, anchor, mu)
            progress = ((round - 1) * cost.steps + k) / (plan.rounds * cost.steps)
            optimizer.step(plan.training.learning_rate * rate_factor(plan.training.schedule, progress))
    finally:
        engine.detach()
    return Trained(float("nan"), cost.steps, time.perf_counter() - started)


def sum_clipped(
    engine: PrivateGradients, chunks: Callable[[], Iterable[Patients]], plan: Plan, generator: torch.Generator
) -> None:
    """Add the clipped gradients of all patients of `chunks()` to the parameters' `.grad`, where nothing is.

    A patient whose gradient is not finite counts as 0, and the others' are worked out again without them:
    weights may be so large that some images overflow and others do not, and an update that is no number, or
    is kept back, would tell of them without noise.
    """
    begun, kept = generator.get_state(), dict[int, Tensor]()
    while True:
        norms = []
        for k, chunk in enumerate(chunks()):
            patients = _augmented(chunk, plan, generator)
            keep = kept.setdefault(k, torch.ones(patients.count, dtype=torch.bool))
            if keep.any():
                norms.append(engine.accumulate(patients.only(keep), sequence_loss))
        finite = torch.cat(norms).isfinite().cpu() if norms else torch.ones(0, dtype=torch.bool)
        if finite.all():  # once a step, a GPU is waited for
            return
        engine.model.zero_grad()
        generator.set_state(begun)
        rest = iter(finite.tolist())
        for keep in kept.values():
            keep[keep.clone()] = torch.tensor([next(rest) for _ in range(int(keep.sum()))], dtype=torch.bool)


def _augmented(patients: Patients, plan: Plan, generator: torch.Generator) -> Patients:
    """Every sequence in as many random versions as the plan says: a patient's gradient is the mean of theirs,
    and then clipped.

    De et al., 2022, "Unlocking High-Accuracy Differentially Private Image Classification through Scale": it
    costs time, not ε.
    """
    assert plan.privacy is not None
    versions, batch = plan.privacy.augmentations, patients.batch
    frames, *rest = (
        t.repeat_interleave(versions, 0) for t in (batch.frames, batch.gaps, batch.lengths, batch.labels)
    )
    frames = augment(frames, plan.training.augmentation, generator)
    return Patients(type(batch)(frames, *rest), patients.owner.repeat_interleave(versions), patients.count)


def sequence_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """(B,) mean binary cross-entropy over the known labels of each sequence; 0 if none is known."""
    known = ~labels.isnan()
    each = F.binary_cross_entropy_with_logits(logits, labels.nan_to_num(), reduction="none")
    return (each * known).sum(1) / known.sum(1).clamp_min(1)


@torch.no_grad()
def add_noise(parameters: list[Tensor], deviation: float, expected: int, generator: torch.Generator) -> None:
    """`.grad` = (clipped sum + N(0, deviation^2)) / expected batch, which is the plan's and not the one that
    was drawn."""
    sizes = [p.numel() for p in parameters]
    noise = normal(sum(sizes), deviation, parameters[0].device, generator)  # one draw: many are slow
    for p, part in zip(parameters, torch.split(noise, sizes), strict=True):
        if p.grad is not None:
            part += p.grad.flatten()
        p.grad = part.view_as(p)
    noise /= expected


MANY = 1_000_000


def normal(n: int, deviation: float, device: torch.device, generator: torch.Generator) -> Tensor:
    """(n,) from N(0, deviation^2). torch draws on one core only: many numbers are drawn by threads with
    generators of their own."""
    threads = torch.get_num_threads() if device.type == "cpu" and n >= MANY else 1
    if threads == 1:
        return torch.normal(0.0, deviation, (n,), generator=generator, device=device)
    noise = torch.empty(n)
    seeds = torch.randint(2**63 - 1, (threads,), generator=generator).tolist()
    with ThreadPoolExecutor(threads) as pool:
        draws = [
            pool.submit(part.normal_, 0.0, deviation, generator=torch.Generator().manual_seed(seed))
            for part, seed in zip(noise.chunk(threads), seeds, strict=True)
        ]
        for draw in draws:
            draw.result()
    return noise
