"""The contract of a model that others made: an ONNX file beside `contract.yaml`, which says what it takes and
gives, so that it can be judged as ours are."""

from typing import Annotated, Literal

from pydantic import Field

from common.config import Settings
from common.plan import Input, Plan

FILE, MODEL = "contract.yaml", "model.onnx"


class Contract(Settings):
    """What `model.onnx` takes: frames (B, C, size, size) of one image a sequence, or (B, T, C, size, size),
    float32 in [0, 1] after our preprocessing, less `mean`, over `std`; and, if it has a second input, gaps
    (B, T) since the frame before. What it gives first: (B, K), a column a finding."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    findings: tuple[str, ...] = Field(min_length=1, strict=False)
    input: Input
    channels: Literal[1, 3] = Field(default=1, description="grey, or the same grey three times")
    mean: float = Field(default=0.0, description="taken from every pixel in [0, 1]")
    std: Annotated[float, Field(gt=0.0)] = Field(default=1.0, description="what is left is divided by it")
    output: Literal["logits", "probabilities"]
    threshold: float | None = Field(
        default=None, ge=0.0, le=1.0, description="on the probability; its maker's"
    )

    def plan(self) -> Plan:
        """A plan with this contract, for what asks a model for its plan; nobody trained under it."""
        return Plan(name=self.name, findings=self.findings, input=self.input)
