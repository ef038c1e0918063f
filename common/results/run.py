"""A run's result, metrics.json: every model judged on the same test patients, with intervals."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import JsonValue

from common.results.form import IF_KNOWN, Interval, Number, Result, read, write

FILE = "metrics.json"


@dataclass(frozen=True, kw_only=True)
class Scores(Result):
    """Metrics of one model on some patients: the mean over findings, or one finding's."""

    auroc: Number
    auroc_ci: Interval
    auprc: Number
    auprc_ci: Interval
    sensitivity: Number  # at the plan's specificity
    sensitivity_ci: Interval
    accuracy: Number  # at the run's threshold
    accuracy_ci: Interval
    brier: Number
    brier_ci: Interval
    ece: Number
    ece_ci: Interval


@dataclass(frozen=True, kw_only=True)
class Mean(Result):
    """Over the hospitals at which it is defined."""

    auroc: Number


@dataclass(frozen=True, kw_only=True)
class Calibrated(Result):
    """After temperature scaling (common/calibration.py)."""

    temperature: Number
    temperature_ci: Annotated[Interval | None, IF_KNOWN] = None
    brier: Number
    brier_ci: Interval
    ece: Number
    ece_ci: Interval


@dataclass(frozen=True, kw_only=True)
class Counts(Result):
    """On whom a model was judged."""

    n_patients: int
    n_sequences: int


@dataclass(frozen=True, kw_only=True)
class Verdict(Scores, Counts):
    """One model on some patients."""

    findings: Annotated[Mapping[str, Scores] | None, IF_KNOWN] = None  # each, where there are several
    mean: Annotated[Mean | None, IF_KNOWN] = None  # of the federated model, over hospitals
    calibrated: Annotated[Calibrated | None, IF_KNOWN] = None  # of the federated model


@dataclass(frozen=True, kw_only=True)
class Alone(Result):
    """Each hospital's own model at home."""

    mean: Mean


@dataclass(frozen=True, kw_only=True)
class Arms(Result):
    """Each arm on the test patients of all hospitals."""

    federated: Verdict
    local_only: Annotated[Alone | None, IF_KNOWN] = None
    centralised: Annotated[Verdict | None, IF_KNOWN] = None


@dataclass(frozen=True, kw_only=True)
class Confusion(Result):
    """The plan's first finding, called from a probability of `threshold` on."""

    threshold: Number
    threshold_ci: Annotated[Interval | None, IF_KNOWN] = None
    chosen: Annotated[bool | None, IF_KNOWN] = None
    """False: it is 0.5, as there were no validation patients of both classes."""
    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int

    @property
    def chosen_threshold(self) -> float:
        """NaN if nobody chose it."""
        return math.nan if self.chosen is False else self.threshold


@dataclass(frozen=True, kw_only=True)
class Bin(Result):
    """Patients of like probability: the mean predicted one, and the share that has the finding."""

    predicted: Number
    observed: Number
    n: int


@dataclass(frozen=True, kw_only=True)
class Point(Result):
    """One threshold of a curve; between them it is a line (ROC) or a step (precision and recall)."""

    threshold: Number
    sensitivity: Number
    specificity: Number
    precision: Number


@dataclass(frozen=True, kw_only=True)
class FindingDetail(Result):
    """One finding of the federated model, on the test patients of whom it is known."""

    n_positive: int  # sequences with it
    n_negative: int
    confusion: Confusion  # at the finding's own threshold, chosen on validation patients
    calibration: Sequence[Bin]
    curve: Sequence[Point]
    at_specificity: Point | None  # of the largest sensitivity at the plan's specificity


@dataclass(frozen=True, kw_only=True)
class Group(Result):
    """A subgroup of the test patients."""

    n_patients: int
    auroc: Number
    auroc_ci: Interval


@dataclass(frozen=True, kw_only=True)
class Gain(Result):
    """AUROC of the federated model less that of the hospital's own, on the hospital's test patients."""

    value: Number
    ci: Interval
    p: Number  # DeLong's
    advice: str


@dataclass(frozen=True, kw_only=True)
class Lengths(Result):
    """Images a sequence."""

    min: int
    median: Number
    max: int


@dataclass(frozen=True, kw_only=True)
class SiteResult(Result):
    """One hospital: its data, and the models on its own test patients."""

    n_patients: int | None  # None: the hospital does not tell
    n_sequences: Annotated[int | None, IF_KNOWN] = None
    n_frames: Annotated[int | None, IF_KNOWN] = None
    frames: Annotated[Lengths | None, IF_KNOWN] = None
    split: Mapping[str, int]  # patients by part, where they are told
    prevalence: Mapping[str, Number]  # by finding; of a real hospital, among its test sequences
    scanners: Sequence[str]
    skipped: Mapping[str, int]  # by reason
    federated: Verdict
    local_only: Annotated[Verdict | None, IF_KNOWN] = None
    gain: Annotated[Gain | None, IF_KNOWN] = None


@dataclass(frozen=True, kw_only=True)
class Traffic(Result):
    """Bytes of weights."""

    up: int
    down: int


@dataclass(frozen=True, kw_only=True)
class Timing(Result):
    """Seconds by the clock; `train_s` is the sum over sites."""

    prepare_s: Number = 0.0
    train_s: Number = 0.0
    rounds_s: Number = 0.0
    total_s: Number = 0.0


@dataclass(frozen=True, kw_only=True)
class RunResult(Result):
    """metrics.json: of a simulated run; of a deployed one with evaluation.final, what its hospitals tell."""

    format: Literal["pneumofed-result-1"] = "pneumofed-result-1"
    name: str
    seed: int
    rounds: int
    """That the federation trained; runs of before told the plan's."""
    chosen: Annotated[int | None, IF_KNOWN] = None
    """The round whose weights the federation hands over, where the plan selects the best."""
    plan_sha256: str
    findings: Sequence[str]
    test: Arms
    confusion: Confusion
    calibration: Sequence[Bin]
    """Of the first finding; of every one:"""
    details: Annotated[Mapping[str, FindingDetail] | None, IF_KNOWN] = None
    subgroups: Mapping[str, Mapping[str, Group]]  # attribute -> group
    told_subgroups: Annotated[Mapping[str, Sequence[str]] | None, IF_KNOWN] = None
    """Attribute -> hospitals of a deployed run that told theirs; None: all did."""
    matrix: Mapping[str, Mapping[str, Number]]  # model -> hospital -> AUROC; empty with many hospitals
    sites: Mapping[str, SiteResult]
    bytes: Traffic
    skipped_files: int
    skipped: Mapping[str, int]  # by reason
    device: str
    engine: str
    data: Mapping[str, JsonValue]  # as the scenario has it
    cohorts: Annotated[Mapping[str, str] | None, IF_KNOWN] = None
    """Hospital -> fingerprint of the cohort that a simulation trained on."""
    versions: Mapping[str, str]
    timing: Timing = Timing()
    epsilon: Annotated[float | None, IF_KNOWN] = None
    """What a simulated private run spent by a hospital's ledger, at the hospital where it is most."""
    silent: Annotated[Mapping[str, str] | None, IF_KNOWN] = None
    """Hospitals of a deployed run that tell no scores -> why."""
    not_crossed: Annotated[Mapping[str, str] | None, IF_KNOWN] = None
    """Hospital -> why its own model, or its judgement of others', is not in the matrix of a deployed run."""

    @property
    def temperature(self) -> float:
        """Of common/calibration.py; NaN if it was not fitted."""
        calibrated = self.test.federated.calibrated
        return calibrated.temperature if calibrated else math.nan


def calibration_of(result: RunResult) -> Mapping[str, Sequence[Bin]]:
    """Of each finding; runs of before told the first one's alone."""
    if result.details is None:
        return {result.findings[0]: result.calibration}
    return {finding: detail.calibration for finding, detail in result.details.items()}


def thresholds_of(result: RunResult) -> Mapping[str, float]:
    """Of each finding, NaN where nobody could choose one; runs of before told the first one's alone."""
    if result.details is None:
        return {result.findings[0]: result.confusion.chosen_threshold}
    return {finding: detail.confusion.chosen_threshold for finding, detail in result.details.items()}


def threshold_intervals_of(result: RunResult) -> Mapping[str, Interval] | None:
    """Of each finding whose threshold has one; None if none has."""
    known = {
        finding: detail.confusion.threshold_ci
        for finding, detail in (result.details or {}).items()
        if detail.confusion.threshold_ci is not None
    }
    return known or None


def read_result(folder: Path) -> RunResult:
    """Of a finished run. Raises RunError if there is none, or it is of another version."""
    return read(RunResult, folder / FILE, "run it again in another folder, or read it with that version")


def write_result(folder: Path, result: RunResult) -> None:
    """Raises OSError."""
    write(folder / FILE, result)
