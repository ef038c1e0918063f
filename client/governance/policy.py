"""What a hospital allows, whatever a server asks for."""

import datetime
from typing import Literal

from pydantic import Field, field_validator

from common.config import Settings
from common.plan import Plan


class Hours(Settings):
    """When training may run, by the machine's own clock; `start` after `end` spans midnight."""

    start: str = "00:00"
    end: str = "24:00"

    @field_validator("start", "end")
    @classmethod
    def _clock(cls, text: str) -> str:
        _minutes(text)
        return text

    def open_at(self, moment: datetime.time) -> bool:
        """Whether `moment` lies in the hours."""
        now, start, end = moment.hour * 60 + moment.minute, _minutes(self.start), _minutes(self.end)
        return start <= now < end if start <= end else now >= start or now < end


def _minutes(text: str) -> int:
    hours, colon, minutes = text.partition(":")
    if not (
        colon
        and hours.isdecimal()
        and minutes.isdecimal()
        and int(minutes) < 60
        and int(hours) * 60 + int(minutes) <= 1440
    ):
        raise ValueError(f"found {text!r}, expected a time from '00:00' to '24:00', in quotes")
    return int(hours) * 60 + int(minutes)


class Policy(Settings):
    """A hospital's rules. A plan outside of them is refused even if somebody approved it."""

    findings: tuple[str, ...] = Field(
        default=("pneumonia",), strict=False, description="findings that may be trained on"
    )
    encoders: tuple[str, ...] = Field(
        default=("cnn3",), strict=False, description="models that may be trained"
    )
    modalities: tuple[Literal["xray", "ct"], ...] = Field(default=("xray", "ct"), strict=False)
    max_rounds: int = Field(default=500, ge=1)
    max_epochs: int = Field(default=20, ge=1, description="in one round")
    metrics: bool = Field(
        default=True, description="whether losses and scores on the hospital's patients may leave"
    )
    final: bool = Field(
        default=False,
        description="whether a run's final scores on test patients may leave, where the plan asks for them",
    )
    cross: bool = Field(
        default=False,
        description="with final: whether the model trained here alone may leave, for other hospitals to "
        "judge it, and theirs be judged here, where the plan asks for it",
    )
    min_patients: int = Field(
        default=10, ge=1, description="fewest patients behind any number or update that leaves"
    )
    epsilon: float = Field(
        default=8.0, gt=0.0, description="of each patient, over all plans and runs for ever (docs/privacy.md)"
    )
    delta: float = Field(default=1e-5, gt=0.0, lt=1.0)
    only_private: bool = Field(default=False, description="refuse plans without privacy")
    hours: Hours = Hours()
    paused: bool = Field(default=False, description="refuse everything until it is false again")

    @property
    def crosses(self) -> bool:
        """Whether models that hospitals train alone are judged by each other."""
        return self.metrics and self.final and self.cross

    def objections(self, plan: Plan) -> list[str]:
        """What in the plan the policy does not allow; one line each, empty if nothing."""
        lines = []
        for finding in sorted(set(plan.findings) - set(self.findings)):
            lines.append(f"finding {finding}: the policy allows {', '.join(self.findings)}")
        if plan.model.encoder not in self.encoders:
            lines.append(f"encoder {plan.model.encoder}: the policy allows {', '.join(self.encoders)}")
        if plan.input.modality not in self.modalities:
            lines.append(f"modality {plan.input.modality}: the policy allows {', '.join(self.modalities)}")
        if plan.rounds > self.max_rounds:
            lines.append(f"{plan.rounds} rounds: the policy allows {self.max_rounds}")
        if plan.training.epochs > self.max_epochs:
            lines.append(f"{plan.training.epochs} epochs in a round: the policy allows {self.max_epochs}")
        if self.only_private and plan.privacy is None:
            lines.append("no privacy: the policy asks for a plan with it")
        return lines

    def closed(self, now: datetime.datetime) -> str | None:
        """Why nothing is done at this moment, or None."""
        if self.paused:
            return "this site has paused"
        if not self.hours.open_at(now.time()):
            return f"this site works from {self.hours.start} to {self.hours.end} by its clock"
        return None
