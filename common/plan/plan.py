"""The plan itself: all its keys, and its hash."""

import hashlib
from typing import ClassVar

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from common.config import Settings
from common.plan.canonical import canonical_json, without_later
from common.plan.evaluation import Evaluation, Split
from common.plan.federation import Aggregation, Codec, Federation, Strategy
from common.plan.input import Input
from common.plan.model import Model
from common.plan.objections import objections
from common.plan.privacy import Privacy
from common.plan.training import Training


class Plan(Settings):
    """One federation. Hospitals approve it by its hash and train under nothing else."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    seed: int = Field(default=0, ge=0, lt=2**32)
    findings: tuple[str, ...] = Field(default=("pneumonia",), min_length=1, strict=False)
    min_patients: int = Field(
        default=10, ge=2, description="a site with fewer training patients does not take part"
    )
    rounds: int = Field(
        default=10,
        ge=0,
        le=100_000,
        description="0: nothing is trained, the model of model.pretrained is judged",
    )
    input: Input = Input()
    model: Model = Model()
    training: Training = Training()
    privacy: Privacy | None = None
    split: Split = Split()
    strategy: Strategy = Strategy()
    federation: Federation = Federation()
    codec: Codec = Codec()
    aggregation: Aggregation = Aggregation()
    evaluation: Evaluation = Evaluation()

    @field_validator("findings")
    @classmethod
    def _distinct_names(cls, findings: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(findings)) != len(findings) or not all(f.isidentifier() for f in findings):
            raise ValueError(f"found {list(findings)}, expected distinct names of letters, digits and _")
        return findings

    @model_validator(mode="after")
    def _groups_go_together(self) -> "Plan":
        if (objection := next(objections(self), None)) is not None:
            raise ValueError(objection)
        return self

    @model_serializer(mode="wrap")
    def _as_agreed(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Without the keys of later versions that say nothing new: the hash stays what hospitals approved."""
        return without_later(self, handler(self), self.always)

    always: ClassVar[frozenset[str]] = frozenset()
    """Keys that a plan's extension writes out, whatever they say."""

    @property
    def canonical(self) -> str:
        """The plan's JSON, the same for the same plan: sorted keys, no spaces, defaults written out (but for
        keys that came after version 0.1: FIRST_KEYS)."""
        return canonical_json(self.model_dump(mode="json"))

    @property
    def sha256(self) -> str:
        """Hex SHA-256 of the canonical JSON."""
        return hashlib.sha256(self.canonical.encode()).hexdigest()
