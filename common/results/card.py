"""card.json: what a model is that is handed over, what is known of it, and the SHA-256 of each file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, JsonValue

from common.results.form import IF_KNOWN, Interval, Number, Result, read, write
from common.results.run import Bin, Group, Verdict

FILE = "card.json"


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


Count = Annotated[int, BeforeValidator(_whole)]
"""Cards of before wrote some as 80.0."""


@dataclass(frozen=True, kw_only=True)
class Privacy(Result):
    """What the plan promised each patient of each site."""

    epsilon: float | None
    noise_multiplier: float | None
    delta: Number
    unit: str
    what: str


@dataclass(frozen=True, kw_only=True)
class TestedSite(Result):
    """A hospital that is simulated, or told its final scores."""

    __test__ = False  # to pytest

    patients: Count | None  # None: withheld
    split: Mapping[str, int]
    prevalence: Mapping[str, Number]
    test: Verdict


@dataclass(frozen=True, kw_only=True)
class DeployedSite(Result):
    """A hospital: what it told."""

    patients: Count | None  # None: withheld
    rounds: int  # in which its update counted
    validation: Mapping[str, Number]  # after the last round that was judged


@dataclass(frozen=True, kw_only=True)
class _JudgedOn(Result):
    on: str


@dataclass(frozen=True, kw_only=True)
class OnTest(Verdict, _JudgedOn):
    """The federated model on all test patients; those of real hospitals are rebuilt from cells
    (common/spread.py)."""


@dataclass(frozen=True, kw_only=True)
class OnValidation(_JudgedOn):
    """Means over the sites' validation patients: all that a server sees."""

    auroc: Number
    auroc_ci: Interval
    brier: Number


@dataclass(frozen=True, kw_only=True)
class Card(Result):
    """card.json."""

    format: Literal["pneumofed-card-1"] = "pneumofed-card-1"
    name: str
    run: str
    """Identifies the run to sites, which may have tensors of their own in it."""
    kind: Literal["simulation", "deployment"]
    created: str
    use: str
    intended_use: str
    limits: Sequence[str]
    plan_sha256: str
    findings: Sequence[str]
    input: Mapping[str, JsonValue]  # as in the plan, as are the next two
    model: Mapping[str, JsonValue]
    strategy: Mapping[str, JsonValue]
    rounds: int
    chosen: Annotated[int | None, Field(exclude_if=lambda chosen: chosen is None)] = None
    """The round whose weights these are, where the plan selects the best."""
    privacy: Privacy | None
    sites: Mapping[str, TestedSite | DeployedSite]
    metrics: OnTest | OnValidation
    subgroups: Mapping[str, Mapping[str, Group]]
    told_subgroups: Annotated[
        Mapping[str, Sequence[str]] | None, Field(exclude_if=lambda told: told is None)
    ] = None
    """Attribute -> hospitals that told theirs; None: all did."""
    threshold: Number
    """On the first finding's probability before calibration; NaN if nobody could choose one."""
    thresholds: Annotated[Mapping[str, Number] | None, IF_KNOWN] = None
    """Of each finding, likewise, where there are several; a card of before knows the first one's alone."""
    thresholds_ci: Annotated[Mapping[str, Interval] | None, IF_KNOWN] = None
    """Finding -> the threshold's interval, of those that have one."""
    temperature: Number
    """Of common/calibration.py; NaN if it was not fitted."""
    temperature_ci: Annotated[Interval | None, IF_KNOWN] = None
    calibration: Annotated[Mapping[str, Sequence[Bin]] | None, IF_KNOWN] = None
    """Of each finding on test patients, before the temperature; of a run whose hospitals told no final scores
    it is not known."""
    cohorts: Annotated[Mapping[str, str] | None, IF_KNOWN] = None
    """Hospital -> fingerprint of the cohort that a simulation trained on: its patients are no strangers."""
    versions: Mapping[str, str]
    files: Mapping[str, str]
    """SHA-256 of each, hex."""

    @property
    def chosen_thresholds(self) -> Mapping[str, float]:
        """Finding -> its threshold; of a card of before, of the first finding alone."""
        return self.thresholds or {self.findings[0]: self.threshold}


def read_card(folder: Path) -> Card:
    """Of a folder that was handed over. Raises RunError if there is none, or it is of another version."""
    return read(Card, folder / FILE, "export the run again, or read it with that version")


def write_card(folder: Path, card: Card) -> None:
    """Raises OSError."""
    write(folder / FILE, card)
