"""What attacks on one site's training found: audit.json of `audit-privacy`. It stays at the site."""

from dataclasses import dataclass
from typing import Literal

from common.metrics import Estimate
from common.results.form import Number, Result


@dataclass(frozen=True, kw_only=True)
class CanaryAttack(Result):
    """Who of some invented patients was trained on, guessed from the site's updates."""

    canaries: int
    guesses: int
    right: int
    auroc: Number
    epsilon_at_least: Number  # with 95 % confidence


@dataclass(frozen=True, kw_only=True)
class Membership(Result):
    """Who was trained on, asked of the finished model: 0.5 is a coin."""

    n_members: int
    n_others: int
    auroc: Estimate
    found_at_1_percent: Number
    """Share of training patients found while one other patient in a hundred is accused (Carlini et al.,
    2022)."""


@dataclass(frozen=True, kw_only=True)
class Inversion(Result):
    """Correlation of a patient's images with what was drawn from one update."""

    plain: Number
    private: Number  # of the update with the plan's privacy


@dataclass(frozen=True, kw_only=True)
class PrivacyAudit(Result):
    """audit.json; what a plan without privacy does not have is undefined, or None."""

    format: Literal["pneumofed-privacy-audit-1"] = "pneumofed-privacy-audit-1"
    site: str
    plan: str
    plan_sha256: str
    n_patients: int
    delta: Number
    epsilon_of_run: Number  # at most
    epsilon_in_ledger: Number  # of everything that the site ever spent
    private: CanaryAttack | None
    plain: CanaryAttack
    membership: Membership | None  # None without a trained model
    inversion: Inversion
