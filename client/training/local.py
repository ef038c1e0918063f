"""One site's part of one round: SGD on its own patients, from the global weights."""

import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from client.compute.batches import Batch, in_batches
from client.compute.device import autocast
from client.imaging.cohort import Cohort
from client.training.augment import augment
from client.training.evaluate import cross_entropy, predict
from client.training.optimizer import Optimizer
from client.training.schedule import rate_factor
from common.plan import Plan
from common.seeds import torch_generator


@dataclass(frozen=True)
class Trained:
    """What a round of training leaves beside the changed model."""

    loss: float  # mean over the last epoch's steps
    steps: int
    seconds: float
    rates: float = 0.0  # the steps' learning rates, added up


@dataclass(frozen=True)
class Pull:
    """What a federated method adds to plain training, one tensor a trained parameter."""

    toward: list[Tensor] | None = None
    strength: float = 0.0  # of the pull toward these weights: FedProx's μ, Ditto's λ
    correction: list[Tensor] | None = None  # added to every step's direction: SCAFFOLD's c - c_i


def train_round(
    model: nn.Module, cohort: Cohort, plan: Plan, site: str, round: int, device: torch.device,
    *, pull: Pull | None = None,
) -> Trained:  # fmt: skip
    """Train `model` in place for the plan's epochs.

    Args:
        model: on `device`, holding the weights to begin from.
        site: with the plan's seed and `round`, the seed of shuffling and augmentation: a restart repeats the
        round.
        round: counted from 1; places the round on the schedule.
        pull: a method's own addition (client/methods/).
    """
    started, split = time.perf_counter(), cohort.split(plan.split)
    weight = class_weights(cohort.labels[split["train"]], plan).to(device)
    generator = torch_generator(plan.seed, "train", site, round)
    steps = _Steps(
        model, plan, weight, generator, pull or Pull(), round=round, n_sequences=len(split["train"])
    )
    stopper = _EarlyStopping(plan.training.early_stopping)
    losses: list[Tensor] = []
    for _ in range(plan.training.epochs):
        model.train()
        batches = in_batches(cohort, split["train"], plan.training.batch_size, device, generator)
        losses = [steps.take(batch) for batch in batches]
        if stopper.should_stop(model, cohort, split["validation"], device):
            break
    stopper.restore(model)
    return Trained(float(torch.stack(losses).mean()), steps.done, time.perf_counter() - started, steps.rates)


class _Steps:
    """The steps of a round, each at its place on the schedule of the whole run."""

    def __init__(
        self, model: nn.Module, plan: Plan, positive_weight: Tensor, generator: torch.Generator, pull: Pull,
        *, round: int, n_sequences: int,
    ) -> None:  # fmt: skip
        self.model, self.plan, self.pull = model, plan, pull
        self.positive_weight, self.generator = positive_weight, generator
        self.optimizer = Optimizer(model.parameters(), plan.training)
        in_round = plan.training.epochs * -(-n_sequences // plan.training.batch_size)
        self.before, self.total = (round - 1) * in_round, plan.rounds * in_round
        self.done, self.rates = 0, 0.0

    def take(self, batch: Batch) -> Tensor:
        """One optimiser step; the loss, still on the device."""
        loss = _backward(self.model, self.optimizer, batch, self.positive_weight, self.plan, self.generator)
        parameters, pull = self.optimizer.parameters, self.pull
        if pull.toward is not None:
            add_proximal_gradient(parameters, pull.toward, pull.strength)
        progress = (self.before + self.done) / self.total
        rate = self.plan.training.learning_rate * rate_factor(self.plan.training.schedule, progress)
        self.optimizer.step(rate)
        if pull.correction is not None:
            torch._foreach_add_([p.detach() for p in parameters], pull.correction, alpha=-rate)
        self.rates += rate
        self.done += 1
        return loss


def _backward(
    model: nn.Module,
    optimizer: Optimizer,
    batch: Batch,
    positive_weight: Tensor,
    plan: Plan,
    generator: torch.Generator,
) -> Tensor:
    """Gradients of one batch into the parameters; the loss, still on the device."""
    frames = augment(batch.frames, plan.training.augmentation, generator)
    optimizer.zero_grad()
    with autocast(frames.device):
        logits = model(frames, batch.gaps, batch.lengths)
    loss = masked_loss(logits.float(), batch.labels, positive_weight)
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach()


def masked_loss(logits: Tensor, labels: Tensor, positive_weight: Tensor) -> Tensor:
    """Mean binary cross-entropy over known labels (B, K); 0 if none of the batch is known."""
    known = ~labels.isnan()
    each = F.binary_cross_entropy_with_logits(
        logits, labels.nan_to_num(), pos_weight=positive_weight, reduction="none"
    )
    return (each * known).sum() / known.sum().clamp_min(1)


def class_weights(labels: NDArray[np.float32], plan: Plan) -> Tensor:
    """(K,) weight of a positive in the loss: negatives / positives where the plan balances classes, else
    1."""
    if plan.training.class_weighting == "none":
        return torch.ones(labels.shape[1])
    positives, negatives = np.nansum(labels == 1, axis=0), np.nansum(labels == 0, axis=0)
    return torch.tensor(negatives / np.maximum(positives, 1), dtype=torch.float32)


@torch.no_grad()
def add_proximal_gradient(parameters: list[Tensor], anchor: list[Tensor], mu: float) -> None:
    """Add the gradient of mu/2 ||w - w_global||^2 (Li et al., 2020, FedProx): mu (w - w_global)."""
    for p, start in zip(parameters, anchor, strict=True):
        if p.grad is not None:
            p.grad.add_(p.detach() - start, alpha=mu)


class _EarlyStopping:
    """Ends a round's epochs when the validation loss no longer falls, and keeps the best weights."""

    def __init__(self, patience: int | None) -> None:
        self.patience = patience
        self.best, self.waited = float("inf"), 0
        self.weights: dict[str, Tensor] | None = None

    def should_stop(
        self, model: nn.Module, cohort: Cohort, validation: NDArray[np.intp], device: torch.device
    ) -> bool:
        if self.patience is None or len(validation) == 0:
            return False
        loss = cross_entropy(predict(model, cohort, validation, device), cohort.labels[validation])
        if loss < self.best:
            self.best, self.waited = loss, 0
            self.weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        else:
            self.waited += 1
        return self.waited >= self.patience

    def restore(self, model: nn.Module) -> None:
        if self.weights is not None:
            model.load_state_dict(self.weights)
