"""What patients are promised, and at what cost."""

from typing import Literal

from pydantic import Field, model_validator

from common.config import Positive, Settings


class Privacy(Settings):
    """Differential privacy of each patient at each site, over the whole run (docs/privacy.md)."""

    unit: Literal["patient"] = "patient"
    epsilon: float | None = Field(
        default=None, ge=0.01, description="for all rounds together; the noise is solved for it"
    )
    noise_multiplier: Positive | None = Field(
        default=None, description="noise over clip, in place of epsilon"
    )
    delta: float = Field(gt=0.0, lt=1.0, description="must be below one over a site's training patients")
    clip: Positive = Field(default=1.0, description="largest L2 norm of one patient's gradient")
    steps: int = Field(
        default=10, ge=1, le=100_000, description="in a round; training.batch_size is the expected batch"
    )
    max_sequences: int = Field(
        default=8, ge=1, le=1000, description="of one patient that are used, the last ones"
    )
    augmentations: int = Field(
        default=1, ge=1, le=64, description="random versions of each sequence in a step: time, not epsilon"
    )
    chunk: int | None = Field(
        default=None, ge=1, description="patients in one pass: less memory, the same result"
    )
    threshold: bool = Field(
        default=False,
        description="at the end sites tell noisy counts of their validation patients' scores, each paying "
        "this epsilon once: for a threshold and a temperature",
    )

    @model_validator(mode="after")
    def _one_way_to_say_it(self) -> "Privacy":
        if (self.epsilon is None) == (self.noise_multiplier is None):
            raise ValueError("expected either epsilon or noise_multiplier")
        return self
