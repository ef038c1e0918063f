"""All attacks on one site, and what they found: the content of audit.json."""

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from client.governance.accounting import RoundCost, epsilon
from client.imaging.cohort import require_trainable
from common import metrics
from common.plan import Plan
from simulation.attacks.bounds import epsilon_lower_bound
from simulation.attacks.canaries import guess, plant, scores, train_watched
from simulation.attacks.inversion import Attempt, Pictures, invert, true_frames
from simulation.attacks.membership import infer_membership
from simulation.attacks.subject import Subject

DELTA = 1e-5
"""For a plan without privacy, whose δ is not stated."""


Observe = Callable[[str, int, int], None]
"""What is being done, how much of it is done, and of how much."""


@dataclass(frozen=True)
class Drawing:
    """A patient's frames, and what was drawn from one update without and (if the plan has it) with
    privacy."""

    truth: Pictures
    plain: Attempt
    private: Attempt | None


def audit_site(
    subject: Subject, canaries: int, device: torch.device, observe: Observe
) -> tuple[dict[str, Any], Drawing]:
    """Attack one site's training. Nothing leaves, so nothing is entered in the ledger.

    Args:
        canaries: invented patients, half of whom are trained on beside the site's own.

    Returns:
        What audit.json holds, and the pictures.
    """
    plan, cohort = subject.plan, subject.open()
    require_trainable(cohort, plan.split, plan.min_patients, subject.site)
    n_patients = cohort.count_patients(cohort.split(plan.split)["train"])
    cost = RoundCost.of(plan, n_patients) if plan.privacy else None
    delta = plan.privacy.delta if plan.privacy else DELTA
    plain = plan.model_copy(update={"privacy": None})
    found: dict[str, Any] = {
        "site": subject.site, "plan": plan.name, "plan_sha256": plan.sha256, "n_patients": n_patients,
        "delta": delta,
        "epsilon_of_run": None, "epsilon_in_ledger": None, "private": None,
    }  # fmt: skip
    if cost is not None:
        found["epsilon_of_run"] = epsilon([(cost.noise, cost.sample_rate, cost.steps * plan.rounds)], delta)
        found["epsilon_in_ledger"] = epsilon(subject.spent(), delta)
        found["private"] = _with_canaries(subject, plan, cost, canaries, delta, device, observe)
    found["plain"] = _with_canaries(subject, plain, None, canaries, delta, device, observe)
    found["membership"] = None
    if subject.model is not None:
        found["membership"] = asdict(infer_membership(plan, cohort, subject.model, device))
    observe("drawing a patient", 0, 1)
    drawing = _draw(subject, plan, cost, device)
    observe("drawing a patient", 1, 1)
    found["inversion"] = {
        "plain": drawing.plain.likeness,
        "private": drawing.private.likeness if drawing.private else None,
    }
    return found, drawing


def _with_canaries(
    subject: Subject,
    plan: Plan,
    cost: RoundCost | None,
    count: int,
    delta: float,
    device: torch.device,
    observe: Observe,
) -> dict[str, Any]:
    """Train the plan at this one site with canaries, attack every update, and bound ε from below."""
    what = "canaries, private" if cost else "canaries, not private"
    observe(what, 0, plan.rounds)
    with tempfile.TemporaryDirectory() as folder:
        planted = plant(plan, count, Path(folder))
        rounds = train_watched(
            plan, subject.open(planted.folder), cost, device, lambda done: observe(what, done, plan.rounds)
        )
        found = scores(plan, planted, rounds, device)
        guesses, right = guess(found, planted.included)
        auroc = metrics.evaluate(metrics.auroc, found, planted.included.astype(np.float64))
    bound = epsilon_lower_bound(count, guesses, right, delta)
    return {"canaries": count, "guesses": guesses, "right": right, "auroc": auroc, "epsilon_at_least": bound}


def _draw(subject: Subject, plan: Plan, cost: RoundCost | None, device: torch.device) -> Drawing:
    """The training patient with the fewest frames is the easiest to draw, and so the worst case."""
    cohort = subject.open()
    train = cohort.split(plan.split)["train"]
    chosen = int(train[np.argmin(cohort.lengths[train])])
    plain = invert(plan, cohort, chosen, None, 0, device)
    private = invert(plan, cohort, chosen, cost.noise, 0, device) if cost else None
    return Drawing(true_frames(cohort, chosen), plain, private)
