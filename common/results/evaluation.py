"""What `pneumofed evaluate` finds, evaluation.json: one model on some labelled patients, each finding by
itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from common.results.form import IF_KNOWN, Interval, Number, Result, write
from common.results.run import Bin, Confusion, Group, Point

FILE = "evaluation.json"


@dataclass(frozen=True, kw_only=True)
class Difference(Result):
    """AUROC of the model less that of the other one, on the same patients."""

    auroc: Number  # of the other model
    value: Number
    ci: Interval  # paired bootstrap over patients
    p: Number  # DeLong's; undefined where a patient has several sequences
    advice: str  # what the interval says to who has the other model


@dataclass(frozen=True, kw_only=True)
class FindingResult(Result):
    """One finding. Probabilities are those that `predict` writes: after calibration, if there is one."""

    auroc: Number
    auroc_ci: Interval
    auprc: Number
    auprc_ci: Interval
    brier: Number
    brier_ci: Interval
    ece: Number
    ece_ci: Interval
    threshold: Number
    threshold_from: str
    accuracy: Number  # at the threshold, as the next two
    accuracy_ci: Interval
    sensitivity: Number
    sensitivity_ci: Interval
    specificity: Number
    specificity_ci: Interval
    n_patients: int
    n_positive: int  # of the patients, those who have it at any visit
    n_sequences: int
    confusion: Confusion
    curve: Sequence[Point]
    calibration: Sequence[Bin]
    subgroups: Mapping[str, Mapping[str, Group]]  # attribute -> group
    against: Annotated[Difference | None, IF_KNOWN] = None
    n_changing: Annotated[int | None, IF_KNOWN] = None  # of n_positive, those who have it not at each visit

    @property
    def who(self) -> str:
        """For people."""
        changing = f", {self.n_changing} of them not at each visit" if self.n_changing else ""
        return f"{self.n_positive} of {self.n_patients} patients have it{changing}"

    @property
    def fewer(self) -> int:
        """Patients in the smaller class; one who changes is in both."""
        return min(self.n_positive, self.n_patients - self.n_positive + (self.n_changing or 0))


@dataclass(frozen=True, kw_only=True)
class EvaluationResult(Result):
    """evaluation.json."""

    format: Literal["pneumofed-evaluation-1"] = "pneumofed-evaluation-1"
    model: str
    plan_sha256: str
    against: Annotated[str | None, IF_KNOWN] = None
    on: str  # the name of the file or folder
    part: str
    n_patients: int
    n_sequences: int
    n_training: int | None  # of the patients, in the run's training; None where nobody can know
    left_out: Mapping[str, int]  # by reason
    temperature: Number
    warnings: Sequence[str]
    findings: Mapping[str, FindingResult]
    versions: Mapping[str, str]


def write_evaluation(folder: Path, result: EvaluationResult) -> None:
    """Raises OSError."""
    write(folder / FILE, result)
