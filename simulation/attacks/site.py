"""All attacks on one site, and what they found: the content of audit.json."""

import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from client.governance.accounting import RoundCost, epsilon
from client.imaging.cohort import require_trainable
from common import metrics
from common.plan import Plan
from common.results.attacks import CanaryAttack, Inversion, PrivacyAudit
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

    @property
    def likeness(self) -> Inversion:
        return Inversion(
            plain=self.plain.likeness, private=self.private.likeness if self.private else math.nan
        )


def audit_site(
    subject: Subject, canaries: int, device: torch.device, observe: Observe
) -> tuple[PrivacyAudit, Drawing]:
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
    attack = _Canaries(subject, canaries, plan.privacy.delta if plan.privacy else DELTA, device, observe)
    steps = [(cost.noise, cost.sample_rate, cost.steps * plan.rounds)] if cost else []
    private = attack.on(plan, cost) if cost else None
    plain = attack.on(plan.model_copy(update={"privacy": None}), None)
    drawing = _draw(subject, plan, cost, device, observe)
    audit = PrivacyAudit(
        site=subject.site,
        plan=plan.name,
        plan_sha256=plan.sha256,
        n_patients=n_patients,
        delta=attack.delta,
        epsilon_of_run=epsilon(steps, attack.delta) if cost else math.nan,
        epsilon_in_ledger=epsilon(subject.spent(), attack.delta) if cost else math.nan,
        private=private,
        plain=plain,
        membership=infer_membership(plan, cohort, subject.model, device) if subject.model else None,
        inversion=drawing.likeness,
    )
    return audit, drawing


@dataclass(frozen=True)
class _Canaries:
    """Trains at one site with canaries, attacks every update, and bounds ε from below."""

    subject: Subject
    count: int
    delta: float
    device: torch.device
    observe: Observe

    def on(self, plan: Plan, cost: RoundCost | None) -> CanaryAttack:
        """The attack on a plan, with the `cost` of its privacy or without."""
        what = "canaries, private" if cost else "canaries, not private"
        self.observe(what, 0, plan.rounds)
        with tempfile.TemporaryDirectory() as folder:
            planted = plant(plan, self.count, Path(folder))
            cohort = self.subject.open(planted.folder)
            rounds = train_watched(
                plan, cohort, cost, self.device, lambda done: self.observe(what, done, plan.rounds)
            )
            leaks = scores(plan, planted, rounds, self.device)
            guesses, right = guess(leaks, planted.included)
            auroc = metrics.evaluate(metrics.auroc, leaks, planted.included.astype(np.float64))
        bound = epsilon_lower_bound(self.count, guesses, right, self.delta)
        return CanaryAttack(
            canaries=self.count, guesses=guesses, right=right, auroc=auroc, epsilon_at_least=bound
        )


def _draw(
    subject: Subject, plan: Plan, cost: RoundCost | None, device: torch.device, observe: Observe
) -> Drawing:
    """The training patient with the fewest frames is the easiest to draw, and so the worst case."""
    observe("drawing a patient", 0, 1)
    cohort = subject.open()
    train = cohort.split(plan.split)["train"]
    chosen = int(train[np.argmin(cohort.lengths[train])])
    plain = invert(plan, cohort, chosen, None, 0, device)
    private = invert(plan, cohort, chosen, cost.noise, 0, device) if cost else None
    observe("drawing a patient", 1, 1)
    return Drawing(true_frames(cohort, chosen), plain, private)
