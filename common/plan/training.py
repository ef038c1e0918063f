"""How a site trains in a round."""

from typing import Literal

from pydantic import Field

from common.config import Fraction, Positive, Settings


class Schedule(Settings):
    """Learning rate over the progress of the whole run, so that a late site is on the same schedule."""

    name: Literal["constant", "cosine"] = "cosine"
    warmup: Fraction = Field(default=0.15, description="share of all steps with a linearly rising rate")
    final: Fraction = Field(default=0.02, description="share of the rate that is left at the end of a cosine")


class Augmentation(Settings):
    """Random changes of a training sequence; all its frames get the same one."""

    shift: Fraction = Field(default=0.0, description="largest shift, share of the frame")
    rotate: float = Field(default=0.0, ge=0.0, le=180.0, description="largest rotation, degrees")
    scale: float = Field(default=0.0, ge=0.0, lt=1.0, description="largest relative zoom")
    contrast: float = Field(default=0.0, ge=0.0, lt=1.0, description="largest relative change of contrast")
    brightness: Fraction = Field(default=0.0, description="largest added brightness, share of the full range")
    flip: bool = Field(default=False, description="mirror left and right; puts the heart on the other side")


class Training(Settings):
    """What one site does in one round."""

    epochs: int = Field(
        default=1, ge=1, le=1000, description="passes over the site's training patients in a round"
    )
    batch_size: int = Field(default=16, ge=1, le=65536, description="patients in a step")
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    learning_rate: Positive = 0.05
    momentum: float = Field(default=0.9, ge=0.0, lt=1.0, description="of sgd; it restarts each round")
    weight_decay: float = Field(default=1e-4, ge=0.0)
    clip_norm: Positive | None = Field(default=1.0, description="largest L2 norm of a step's gradient")
    schedule: Schedule = Schedule()
    class_weighting: Literal["none", "balanced"] = "none"
    augmentation: Augmentation = Augmentation()
    early_stopping: int | None = Field(
        default=None, ge=1, description="stop a round after this many epochs without a better validation loss"
    )
