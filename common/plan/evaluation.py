"""On whom a model is judged, what is measured, and which round's model is the result."""

from typing import Literal

from pydantic import Field, model_validator

from common.config import Settings


class Split(Settings):
    """Shares of patients; who goes where is a hash of the patient's pseudonym."""

    validation: float = Field(default=0.15, ge=0.0, lt=1.0)
    test: float = Field(default=0.2, gt=0.0, lt=1.0)

    @model_validator(mode="after")
    def _leaves_training_patients(self) -> "Split":
        if self.validation + self.test >= 1.0:
            raise ValueError(
                f"found validation + test = {self.validation + self.test:g}, expected less than 1"
            )
        return self


SENSITIVITY = 0.9
"""That of a threshold, where a plan asks for one and does not say which."""


class Evaluation(Settings):
    """What is measured, and how surely."""

    every: int = Field(
        default=1, ge=0, description="validate the global model every so many rounds; 0 is never"
    )
    specificity: float = Field(default=0.9, gt=0.0, lt=1.0, description="at which sensitivity is stated")
    threshold: Literal["youden", "sensitivity", "accuracy"] = Field(
        default="youden",
        description="on validation, the one of the largest sensitivity + specificity, or the largest one of "
        "at least this sensitivity; accuracy can be read, and starts no run",
    )
    sensitivity: float = Field(
        default=SENSITIVITY,
        gt=0.0,
        lt=1.0,
        description="with threshold sensitivity: share of those with the finding who are called, at least",
    )
    bootstrap: int = Field(
        default=1000, ge=100, le=100_000, description="resamples of patients behind an interval"
    )
    final: bool = Field(
        default=False,
        description="at the end, sites whose policy allows it tell the last model's scores on test patients",
    )
    alone: bool = Field(
        default=False,
        description="with final: each site trains by itself too, and tells what the federation gained it",
    )
    cross: int = Field(
        default=0,
        ge=0,
        le=50,
        description="with alone: sites that allow it show their own model, and judge so many others'",
    )
    select: Literal["last", "best"] = Field(
        default="last",
        description="whose weights are the result: the last round's, or those of lowest validation loss",
    )
    patience: int | None = Field(
        default=None,
        ge=1,
        description="with best: a run ends after so many evaluations without a lower validation loss",
    )

    @model_validator(mode="after")
    def _goes_together(self) -> "Evaluation":
        if self.threshold != "sensitivity" and self.sensitivity != SENSITIVITY:
            raise ValueError("sensitivity is what a threshold is chosen for: set threshold sensitivity too")
        if self.alone and not self.final:
            raise ValueError("alone is told with the final scores: set final too")
        if self.cross and not self.alone:
            raise ValueError("cross shows the models that sites train alone: set alone too")
        if self.select == "best" and self.every == 0:
            raise ValueError("select best goes by validation scores, found every 0")
        if self.patience is not None and self.select == "last":
            raise ValueError("patience waits for a better round: set select best too")
        return self
