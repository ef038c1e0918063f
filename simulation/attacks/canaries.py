"""Canaries: invented patients, each in the training by a fair coin, and an attacker who has seen every update
of the site."""

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from client.compute.batches import collate
from client.governance.accounting import RoundCost
from client.imaging.cohort import Cohort, build_cohort, pseudonym, split_position
from client.imaging.frames import Frame, InMemory
from client.imaging.outcome import Tally
from client.imaging.sequence import Collection, Sequence
from client.training.local import Pull, train_round
from client.training.private.round import sequence_loss, train_private_round
from common.models import CNNLSTM, build_model
from common.plan import Plan

RIDGE = 0.1
"""Of the attacker's regression, relative to a canary's own gradient of length one."""

Round = tuple[dict[str, Tensor], Tensor]
"""The weights that a round began from, and the site's update of the trainable ones as one vector."""


@dataclass(frozen=True)
class Canaries:
    """`count` invented patients with one sequence each: those that were in, for training; all of them, for
    the attacker."""

    everyone: Cohort
    included: NDArray[np.bool_]  # (count,) in the order of `everyone`
    folder: Path  # the cohort of the included ones


def plant(plan: Plan, count: int, folder: Path) -> Canaries:
    """Draw coins and images from the operating system's randomness and write both cohorts below `folder`."""
    rng = np.random.default_rng(secrets.randbits(128))
    key = secrets.token_bytes(32)
    names = _training_patients(plan, count, key)
    sequences = [_sequence(name, plan, rng) for name in names]
    included = rng.random(count) < 0.5
    chosen = [s for s, i in zip(sequences, included, strict=True) if i]
    for name, members in (("everyone", sequences), ("included", chosen)):
        build_cohort(folder / name, Collection(members, Tally()), plan.input, plan.findings, key, "canaries")
    everyone = Cohort.open(folder / "everyone")
    inside = {pseudonym(s.patient, key) for s in chosen}
    return Canaries(everyone, np.array([p in inside for p in everyone.patients]), folder / "included")


def _training_patients(plan: Plan, count: int, key: bytes) -> list[str]:
    """Names whose pseudonyms fall in the training split."""
    names: list[str] = []
    number = 0
    while len(names) < count:
        number += 1
        if split_position(pseudonym(f"canary {number}", key)) >= plan.split.test + plan.split.validation:
            names.append(f"canary {number}")
    return names


def _sequence(name: str, plan: Plan, rng: np.random.Generator) -> Sequence:
    """Frames that no scanner makes, each canary's unlike all others, with labels by coin: their gradients
    point apart."""
    contract = plan.input
    length = int(rng.integers(1, contract.max_frames + 1))
    side = int(rng.choice([4, 7, 14]))
    pictures = [
        np.kron(rng.random((side, side)), np.ones((-(-contract.size // side),) * 2)).astype(np.float32)
        for _ in range(length)
    ]
    frames = tuple(Frame(float(30 * k), InMemory(p)) for k, p in enumerate(pictures))
    return Sequence(name, frames, rng.integers(0, 2, len(plan.findings)).astype(np.float32))


def train_watched(
    plan: Plan, cohort: Cohort, cost: RoundCost | None, device: torch.device, watch: Callable[[int], None]
) -> Iterator[Round]:
    """The plan's rounds at this one site, as its worker trains them; yields what the server sees of each.

    Args:
        cost: of a plan with privacy.
        watch: called with the number of each round that is done.
    """
    model = build_model(plan).to(device)
    trained = [n for n, p in model.named_parameters() if p.requires_grad]
    for number in range(1, plan.rounds + 1):
        start = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        if cost is None:
            mu = plan.strategy.option("proximal_mu")
            pull = (
                Pull([p.detach().clone() for p in model.parameters() if p.requires_grad], mu) if mu else None
            )
            train_round(model, cohort, plan, "audited", number, device, pull=pull)
        else:
            train_private_round(
                model, cohort, cohort.split(plan.split)["train"], plan, cost, number, device=device
            )
        weights = model.state_dict()
        yield start, parameters_to_vector([weights[name] - start[name] for name in trained])
        watch(number)


def scores(
    plan: Plan, canaries: Canaries, rounds: Iterator[Round], device: torch.device
) -> NDArray[np.float64]:
    """(count,) how much each canary's gradient is in the updates: larger for those that were in, if training
    leaks.

    In each round the attacker, who knows the canaries, explains the update by their gradients at the round's
    first weights: a ridge regression, since gradients overlap. The coefficients of all rounds are summed.
    Gradients point in updates as in Nasr et al., 2023, "Tight Auditing of Differentially Private Machine
    Learning".
    """
    model = build_model(plan).to(device)
    total = torch.zeros(len(canaries.everyone), dtype=torch.float64)
    for start, update in rounds:
        model.load_state_dict(start)
        directions = _gradients(model, canaries.everyone, device)
        gram = directions @ directions.T + RIDGE * torch.eye(len(directions), device=device)
        total += -torch.linalg.solve(gram, directions @ update).double().cpu()
    return total.numpy()


def _gradients(model: CNNLSTM, cohort: Cohort, device: torch.device) -> Tensor:
    """(count, parameters) the gradient of each canary's loss, of length one."""
    trained = [p for p in model.parameters() if p.requires_grad]
    model.train()
    rows = []
    for i in range(len(cohort)):
        batch = collate(cohort, np.array([i])).to(device)
        loss = sequence_loss(model(batch.frames, batch.gaps, batch.lengths), batch.labels).sum()
        rows.append(
            torch.nn.functional.normalize(parameters_to_vector(torch.autograd.grad(loss, trained)), dim=0)
        )
    return torch.stack(rows)


def guess(scores: NDArray[np.float64], included: NDArray[np.bool_], share: float = 0.5) -> tuple[int, int]:
    """Guess "in" for the highest scores and "out" for the lowest, `share` of all together: guesses made, and
    right ones."""
    half = round(len(scores) * share / 2)
    order = np.argsort(scores)
    right = int((~included[order[:half]]).sum() + included[order[len(order) - half :]].sum())
    return 2 * half, right
