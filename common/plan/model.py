"""What is trained."""

from typing import Literal

from pydantic import Field, model_validator

from common.config import Settings

LEAST_SIZE = {"densenet121": 32}
"""Pixels of a frame's side, where an encoder leaves nothing of a smaller one."""


class Model(Settings):
    """The CNN-LSTM (docs/model.md)."""

    encoder: Literal["cnn3", "resnet18", "efficientnet_b0", "densenet121", "vit_tiny"] = "cnn3"
    width: int = Field(
        default=16, ge=4, le=512, description="of cnn3: channels of the first hidden layer; they double twice"
    )
    embedding: int = Field(default=64, ge=4, le=4096, description="numbers that describe one frame")
    context: int = Field(
        default=1, ge=0, le=8, description="neighbouring frames stacked as channels beside each frame"
    )
    time_gap: bool = Field(
        default=True, description="feed the log of the days (millimetres) since the previous frame"
    )
    l2_normalise: bool = Field(default=True, description="embeddings of length one, times a learned scale")
    hidden: int = Field(default=64, ge=4, le=4096)
    layers: int = Field(default=1, ge=1, le=4)
    bidirectional: bool = False
    recurrent: bool = Field(
        default=True, description="an LSTM follows the frames; without it the pooled embeddings are all"
    )
    pooling: Literal["last", "mean", "attention"] = "attention"
    pretrained: str | None = Field(
        default=None,
        pattern="^[0-9a-f]{64}$",
        description="SHA-256 of the file of weights that the model, or its encoder, starts from",
    )
    frozen_stages: int = Field(
        default=0, ge=0, le=16, description="of the encoder, from the input on, that stay as they start"
    )
    adapters: int = Field(
        default=0,
        ge=0,
        le=256,
        description="rank of the low-rank adapters that train in place of the encoder's pretrained weights",
    )
    patch: int = Field(
        default=16, ge=2, le=64, description="of vit_tiny: side of a patch, pixels; a frame's is a multiple"
    )

    @model_validator(mode="after")
    def _adapters_stand_beside_what_is_known(self) -> "Model":
        if self.adapters and self.pretrained is None:
            raise ValueError("adapters train beside pretrained weights: name their file in pretrained")
        if self.adapters and self.frozen_stages:
            raise ValueError(
                "adapters freeze the encoder but for its projection: leave frozen_stages or adapters out"
            )
        return self
