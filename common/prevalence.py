"""How frequent a finding is among patients whom nobody labelled, and probabilities that fit it (Saerens,
Latinne and Decaestecker, 2002, "Adjusting the outputs of a classifier to new a priori probabilities",
Neural Computation 14).

Under label shift, where patients of a class look everywhere alike and only the classes' shares differ, Bayes'
rule takes the old share out of a probability and puts the new one in. The new share is the one under which
what the model says of all patients together is most likely.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.arrays import Names, Reals
from common.calibration import calibrate
from common.metrics import Estimate, resample_patients
from common.results.run import Bin

Floats = NDArray[np.float64]
HALVINGS = 30
"""Of what is left of (0, 1): to a part in 10^9."""
FLAT = 1.92
"""Nats: half of chi-squared's 95 % point at one degree of freedom (Wilks, 1938)."""


@dataclass(frozen=True)
class Reference:
    """The patients on whom a model was judged: for the share of theirs its probabilities are meant."""

    n: int
    n_positive: int
    predicted: float
    """The mean of their probabilities after the temperature; taken bin by bin."""
    spread: float
    """Standard deviation of `n_positive` / `n`, were those probabilities right."""

    @classmethod
    def of(cls, bins: Sequence[Bin], temperature: float) -> "Reference":
        """Of a reliability curve before the temperature."""
        n = np.array([one.n for one in bins], np.float64)
        p = calibrate(np.array([one.predicted for one in bins], np.float64), temperature)
        positive = float(n @ np.array([one.observed for one in bins], np.float64))
        error = float(np.sqrt(n @ (p * (1.0 - p))) / n.sum())
        return cls(round(n.sum()), round(positive), float(n @ p / n.sum()), error)

    @property
    def prevalence(self) -> float:
        return self.n_positive / self.n

    @property
    def is_off(self) -> bool:
        """Whether the model says more, or less, of them than chance explains (two standard deviations)."""
        return abs(self.predicted - self.prevalence) > 2.0 * self.spread


@dataclass(frozen=True)
class Prevalence:
    """That of a finding among unlabelled patients."""

    estimate: Estimate
    n_patients: int
    is_at_edge: bool
    """Less than one sequence would have the finding, or not have it."""
    is_flat: bool
    """All or none having it is as likely as the estimate: the model tells nobody apart."""


def corrected(p: Reals, before: float | Floats, now: float | Floats) -> Floats:
    """Probabilities for a prevalence `now` in place of `before`: Bayes' rule (Saerens et al.).
    It keeps the order: who reaches a threshold reaches the corrected threshold."""
    yes, no = _ratios(p, before)
    result: Floats = now * yes / (now * yes + (1.0 - now) * no)
    return result


def estimated(
    p: Reals, patients: Names, reference: Reference, n_draws: int, rng: np.random.Generator
) -> Prevalence:
    """The most likely prevalence, with an interval by bootstrap over patients, in which the reference's share
    is drawn too, as of other patients of so many.

    Args:
        p: (N,) calibrated probabilities; `patients` (N,) whose they are.
    """
    weights = resample_patients(patients, n_draws, rng)
    share = rng.binomial(reference.n, reference.prevalence, (n_draws, 1)) / reference.n
    share = np.clip(share, 0.5 / reference.n, 1.0 - 0.5 / reference.n)  # both classes were there
    yes, no = _ratios(p, reference.prevalence)
    value = float(most_likely(yes[None], no[None], np.ones((1, len(p))))[0])
    draws = most_likely(*_ratios(p[None], share), weights)
    with np.errstate(divide="ignore"):
        top = np.log(value * yes + (1.0 - value) * no).sum()
        ends = min(np.log(yes).sum(), np.log(no).sum())
    return Prevalence(
        Estimate.of(value, draws),
        n_patients=len(set(patients.tolist())),
        is_at_edge=min(value, 1.0 - value) * len(p) < 1.0,
        is_flat=bool(top - ends < FLAT),
    )


def _ratios(p: Reals, before: float | Floats) -> tuple[Floats, Floats]:
    """How much likelier such a sequence is among those with the finding than among all; and among those
    without."""
    exact = p.astype(np.float64)
    return exact / before, (1.0 - exact) / (1.0 - before)


def most_likely(yes: Floats, no: Floats, weights: Floats) -> Floats:
    """(R,) the share s of the largest sum of w log(s yes + (1 - s) no): where the EM iteration of Saerens et
    al. ends. It is concave in s, so that its slope's zero is found by halving, also where EM creeps.

    Args:
        yes, no: (R or 1, N); weights (R, N).
    """
    low, high = np.zeros(len(weights)), np.ones(len(weights))
    for _ in range(HALVINGS):
        middle = (low + high) / 2.0
        s = middle[:, None]
        rises = (weights * (yes - no) / (s * yes + (1.0 - s) * no)).sum(axis=1) > 0.0
        low, high = np.where(rises, middle, low), np.where(rises, high, middle)
    return (low + high) / 2.0
