"""How sites work together: by which method, when a round counts, how updates cross and who sees them."""

from typing import Literal

from pydantic import Field, model_validator

from common.config import Positive, Settings
from common.methods import METHODS, Method


class Strategy(Settings):
    """A federated method by name, with its own options (common/methods.py has them all; docs/methods.md)."""

    name: str = "FedAvg"
    options: dict[str, float | int] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _known(self) -> "Strategy":
        if self.name not in METHODS:
            raise ValueError(f"name: found {self.name[:40]!r}, expected one of {', '.join(METHODS)}")
        options = self.method.options
        for option, value in self.options.items():
            if option not in options:
                expected = ", ".join(options) or "no options"
                raise ValueError(f"options: {self.name} has no {option[:40]!r}; it has {expected}")
            if (objection := options[option].objection(value)) is not None:
                raise ValueError(f"options.{option}: {objection}")
        return self

    @property
    def method(self) -> Method:
        """The method's row of the table."""
        return METHODS[self.name]

    def option(self, name: str) -> float:
        """The plan's value, or the method's default; 0 for a method that does not have it."""
        known = self.method.options.get(name)
        return float(self.options.get(name, known.default if known else 0.0))


MAX_SHARE = 0.5
"""No hospital counts for more than all others together."""


class Federation(Settings):
    """When a round counts, and what an update may look like."""

    participation: float = Field(
        default=1.0, gt=0.0, le=1.0, description="share of the sites asked in a round"
    )
    quorum: float = Field(
        default=1.0, gt=0.0, le=1.0, description="share of the asked sites that must answer"
    )
    deadline_s: Positive = Field(default=3600.0, description="seconds a round waits for its sites")
    max_update_norm: float = Field(
        default=100.0, gt=0.0, le=1e6, description="largest L2 norm of a site's update"
    )
    max_share: float = Field(
        default=MAX_SHARE,
        gt=0.0,
        le=1.0,
        description="largest share of the weights that one of three or more sites has; 1 is any",
    )


LEVELS = {"int8": 127, "int4": 7}
"""Codec -> the largest integer that it sends, of either sign."""


class Codec(Settings):
    """How numbers cross between the server and the sites (common/codec.py; docs/methods.md)."""

    name: Literal["none", "int8", "int4"] = Field(
        default="none", description="none: float32, as they are; else integers of so many bits"
    )
    top: float = Field(
        default=1.0,
        gt=0.0,
        le=1.0,
        description="share of an update's numbers that is sent, the largest; the others come later",
    )

    @model_validator(mode="after")
    def _sends_all_as_it_is(self) -> "Codec":
        if self.name == "none" and self.top < 1.0:
            raise ValueError("top is a share of what a codec sends: set name int8 or int4 too")
        return self

    @property
    def levels(self) -> int:
        """The largest integer that is sent."""
        return LEVELS[self.name]


class Aggregation(Settings):
    """Who sees single updates (common/secure/; docs/privacy.md)."""

    secure: bool = Field(default=False, description="the server sees the sum of the updates alone")
    threshold: int | None = Field(
        default=None,
        ge=2,
        description="with secure: so many sites, more than half, must stay to the end of a round",
    )

    @model_validator(mode="after")
    def _threshold_goes_with_secure(self) -> "Aggregation":
        if self.secure != (self.threshold is not None):
            raise ValueError("secure and threshold go together: set both, or none")
        return self
