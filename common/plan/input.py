"""The input contract."""

from typing import Literal

from pydantic import Field, model_validator

from common.config import Positive, Settings

About = Literal["patient", "visit"]
"""What a label says something of."""


class Window(Settings):
    """A grey-value window in the units of the modality (Hounsfield units for CT)."""

    center: float
    width: Positive


class Input(Settings):
    """The input contract: what one sequence looks like when it reaches the model."""

    modality: Literal["xray", "ct"] = "xray"
    size: int = Field(default=64, ge=16, le=1024, description="height and width of a frame, pixels")
    min_frames: int = Field(
        default=1, ge=1, le=512, description="a shorter sequence is left out, and refused in prediction"
    )
    max_frames: int = Field(
        default=8, ge=1, le=512, description="an X-ray sequence keeps its latest, a CT is sampled evenly"
    )
    depth: Literal[8, 16] = Field(default=8, description="bits of a stored pixel")
    window: Window | None = Field(
        default=None, description="overrides the window in the files; for CT, the lung window"
    )
    label: About = Field(
        default="patient",
        description="visit: each labelled visit is a sequence, of its X-rays and of all before them",
        exclude_if=lambda value: value == "patient",  # cohorts of before are the same ones
    )

    @model_validator(mode="after")
    def _goes_together(self) -> "Input":
        if self.label == "visit" and self.modality == "ct":
            raise ValueError("label visit is about serial X-rays; a CT is one volume: leave it out")
        if self.min_frames > self.max_frames:
            raise ValueError(
                f"found min_frames {self.min_frames}, expected at most max_frames, which is {self.max_frames}"
            )
        return self
