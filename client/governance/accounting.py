"""What privacy costs: ε of a history of steps, and the noise for a target ε. Opacus's accountants, nothing of
our own.

A history is a list of (noise multiplier, sample rate, steps). Both accountants give valid upper bounds for
Poisson-sampled Gaussian steps with neighbours that differ by one patient added or removed; the smaller one
counts.

RDP: Mironov, Talwar, Zhang, 2019, "Rényi Differential Privacy of the Sampled Gaussian Mechanism".
PRV: Gopi, Lee, Wutschitz, 2021, "Numerical Composition of Differential Privacy".
"""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np

from common.errors import ConfigError, RefusedError
from common.plan import Plan, Privacy

History = Sequence[tuple[float, float, int]]


def merged(history: History) -> tuple[tuple[float, float, int], ...]:
    """Steps of the same noise and rate taken together: composition does not mind the order."""
    steps: dict[tuple[float, float], int] = {}
    for noise, rate, n in history:
        steps[noise, rate] = steps.get((noise, rate), 0) + n
    return tuple((noise, rate, n) for (noise, rate), n in sorted(steps.items()) if n > 0)


@cache
def _remember() -> None:
    """Opacus works out the divergence of the same step three times for one ε, and again in each round, at a
    hundred orders: once is enough."""
    from opacus.accountants.analysis import rdp

    rdp._compute_rdp = lru_cache(maxsize=2**15)(rdp._compute_rdp)


def epsilon_rdp(history: History, delta: float) -> float:
    """ε by Rényi differential privacy; 0 for an empty history."""
    from opacus.accountants import RDPAccountant

    accountant = RDPAccountant()
    accountant.history = list(merged(history))
    return _epsilon(accountant, delta)


def epsilon_prv(history: History, delta: float) -> float:
    """ε by numerical composition, rounded up by its stated error (0.01); tighter, and slower."""
    from opacus.accountants import PRVAccountant

    accountant = PRVAccountant()
    accountant.history = list(merged(history))
    return _epsilon(accountant, delta)


def _epsilon(accountant: object, delta: float) -> float:
    if not accountant.history:  # type: ignore[attr-defined]
        return 0.0
    _remember()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the range of orders: the bound stays valid
        epsilon = float(accountant.get_epsilon(delta=delta))  # type: ignore[attr-defined]
    return max(0.0, epsilon)  # both may fall below where next to nothing is lost


FEW = 10
"""Different (noise, rate) up to which both bounds are worked out: numerical composition takes a quarter of a
second for each, and memory that grows with ε."""
STEP = 1.01
ORDERS = (*range(2, 33), 40, 48, 64, 128, 256)
"""Of Rényi divergence: whole ones, which take a twentieth of the time of the others."""


def rounded_up(history: History) -> tuple[tuple[float, float, int], ...]:
    """A history that costs at least as much, with fewer different steps: noise down and rate up to the next
    power of STEP."""

    def grid(value: float, towards: Callable[[float], int]) -> float:
        return STEP ** towards(round(math.log(value) / math.log(STEP), 6)) if value > 0.0 else value

    return merged(
        [(grid(noise, math.floor), min(1.0, grid(rate, math.ceil)), n) for noise, rate, n in history]
    )


def epsilon_of_many(history: History, delta: float) -> float:
    """ε by Rényi differential privacy at whole orders: looser by a little, and quick for hundreds of
    different steps."""
    from opacus.accountants.analysis import rdp

    _remember()
    spent = sum(
        (
            rdp.compute_rdp(q=rate, noise_multiplier=noise, steps=n, orders=ORDERS)
            for noise, rate, n in history
        ),
        start=np.zeros(len(ORDERS)),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return max(0.0, float(rdp.get_privacy_spent(orders=ORDERS, rdp=spent, delta=delta)[0]))


def epsilon(history: History, delta: float) -> float:
    """The smaller of the two bounds; that of RDP alone where the numerical one does not work out (very little
    noise), or the history has more than FEW different steps."""
    history = merged(history)
    if len(history) > FEW:
        few = rounded_up(history)
        if len(few) > FEW:
            return epsilon_of_many(history, delta)
        history = few
    rdp = epsilon_rdp(history, delta)
    try:
        return min(rdp, epsilon_prv(history, delta))
    except (RuntimeError, ValueError, OverflowError, MemoryError):
        return rdp


@lru_cache(maxsize=64)
def solve_noise(privacy: Privacy, sample_rate: float, steps: int) -> float:
    """The noise multiplier with which `steps` steps at `sample_rate` cost the plan's ε, or the plan's own.

    Raises:
        ConfigError: no noise reaches that ε.
    """
    if privacy.noise_multiplier is not None:
        return privacy.noise_multiplier
    from opacus.accountants.utils import get_noise_multiplier

    _remember()
    assert privacy.epsilon is not None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            noise = get_noise_multiplier(
                target_epsilon=privacy.epsilon,
                target_delta=privacy.delta,
                sample_rate=sample_rate,
                steps=steps,
                accountant="prv",
            )
    except (ValueError, RuntimeError):
        raise ConfigError(
            f"privacy: no noise gives epsilon {privacy.epsilon:g} at delta {privacy.delta:g}; allow more"
        ) from None
    return float(noise)


@dataclass(frozen=True)
class RoundCost:
    """What one round costs a patient of this site, before it is trained."""

    sample_rate: float
    """Chance of a patient to be in a step: the plan's expected batch over the site's training patients."""
    noise: float
    """Noise multiplier: standard deviation of the noise over the clipping bound."""
    steps: int

    @classmethod
    def of(cls, plan: Plan, n_patients: int) -> "RoundCost":
        """The cost at a site of `n_patients` training patients.

        Raises:
            RefusedError: there is nobody, or δ is not below 1/N, so that giving a patient's data away would
                count as private.
            ConfigError: no noise gives the plan's ε.
        """
        privacy = _bounding(plan, n_patients, "training")
        rate = min(1.0, plan.training.batch_size / n_patients)
        return cls(rate, solve_noise(privacy, rate, plan.rounds * privacy.steps), privacy.steps)

    @classmethod
    def of_scores(cls, plan: Plan, n_patients: int) -> "RoundCost":
        """The cost of the plan's threshold at a site of `n_patients` validation patients: all of them, once.
        Raises as `of`."""
        return cls(1.0, solve_noise(_bounding(plan, n_patients, "validation"), 1.0, 1), 1)

    @property
    def history(self) -> tuple[float, float, int]:
        """As the ledger has it."""
        return self.noise, self.sample_rate, self.steps


def _bounding(plan: Plan, n_patients: int, part: str) -> Privacy:
    """The plan's privacy, where it is one for so many patients."""
    assert plan.privacy is not None
    if n_patients < 1:
        raise RefusedError(f"this site has no {part} patients for this plan")
    if plan.privacy.delta * n_patients >= 1.0:
        raise RefusedError(f"privacy.delta is not below one over this site's number of {part} patients")
    return plan.privacy
