"""The plan: everything a federation agrees on before it starts. Values, never code; known by its SHA-256."""

import hashlib
import json
from typing import Annotated, ClassVar, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from common.config import Settings
from common.errors import ConfigError
from common.first_plan import FIRST_KEYS
from common.methods import METHODS, Method, Stays

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
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
    def _a_ct_has_no_visits_before(self) -> "Input":
        if self.label == "visit" and self.modality == "ct":
            raise ValueError("label visit is about serial X-rays; a CT is one volume: leave it out")
        return self

    @model_validator(mode="after")
    def _some_lengths_are_left(self) -> "Input":
        if self.min_frames > self.max_frames:
            raise ValueError(
                f"found min_frames {self.min_frames}, expected at most max_frames, which is {self.max_frames}"
            )
        return self


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
    def _a_sensitivity_is_asked_for(self) -> "Evaluation":
        if (
            self.threshold != "sensitivity"
            and self.sensitivity != Evaluation.model_fields["sensitivity"].default
        ):
            raise ValueError("sensitivity is what a threshold is chosen for: set threshold sensitivity too")
        return self

    @model_validator(mode="after")
    def _alone_is_told_at_the_end(self) -> "Evaluation":
        if self.alone and not self.final:
            raise ValueError("alone is told with the final scores: set final too")
        if self.cross and not self.alone:
            raise ValueError("cross shows the models that sites train alone: set alone too")
        return self

    @model_validator(mode="after")
    def _what_is_best_is_measured(self) -> "Evaluation":
        if self.select == "best" and self.every == 0:
            raise ValueError("select best goes by validation scores, found every 0")
        if self.patience is not None and self.select == "last":
            raise ValueError("patience waits for a better round: set select best too")
        return self


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
    def _frames_suit_the_encoder(self) -> "Plan":
        least = LEAST_SIZE.get(self.model.encoder, 0)
        if self.input.size < least:
            raise ValueError(
                f"model.encoder {self.model.encoder} halves a frame five times: found input.size "
                f"{self.input.size}, expected at least {least}"
            )
        if self.model.encoder == "vit_tiny" and self.input.size % self.model.patch:
            raise ValueError(
                f"model.patch: found {self.model.patch}, which does not divide input.size {self.input.size}"
            )
        return self

    @model_validator(mode="after")
    def _early_stopping_needs_validation(self) -> "Plan":
        if self.training.early_stopping is not None and self.split.validation == 0.0:
            raise ValueError("training.early_stopping needs validation patients, found split.validation 0")
        return self

    @model_validator(mode="after")
    def _private_training_looks_at_nothing_else(self) -> "Plan":
        if self.privacy is not None:
            if self.training.early_stopping is not None:
                raise ValueError(
                    "training.early_stopping looks at validation patients without noise; leave it out with "
                    "privacy"
                )
            if self.training.class_weighting != "none":
                raise ValueError(
                    "training.class_weighting counts patients without noise; leave it out with privacy"
                )
            if self.privacy.threshold and self.split.validation == 0.0:
                raise ValueError("privacy.threshold needs validation patients, found split.validation 0")
        return self

    @model_validator(mode="after")
    def _final_scores_can_be_told(self) -> "Plan":
        if self.evaluation.final and self.privacy is not None:
            raise ValueError(
                "evaluation.final tells scores without noise; leave it out with privacy (each hospital can "
                "judge the model for itself: pneumofed client gain)"
            )
        if self.evaluation.final and self.split.validation == 0.0:
            raise ValueError("evaluation.final needs validation patients, found split.validation 0")
        if self.rounds == 0 and (
            not self.evaluation.final or self.model.pretrained is None or self.evaluation.alone
        ):
            raise ValueError(
                "found rounds 0, which judges a finished model: expected evaluation.final, model.pretrained "
                "(the SHA-256 of its model.safetensors), and no evaluation.alone"
            )
        if self.evaluation.alone and self.model.pretrained is not None:
            raise ValueError(
                "evaluation.alone: sites do not have the pretrained weights; leave one of them out"
            )
        return self

    @model_validator(mode="after")
    def _the_best_round_can_be_known(self) -> "Plan":
        if self.evaluation.select == "last":
            return self
        if self.split.validation == 0.0 or self.privacy is not None:
            found = "split.validation 0" if self.privacy is None else "privacy, under which no site tells any"
            raise ValueError(f"evaluation.select best goes by validation scores, found {found}")
        if self.strategy.method.stays not in {Stays.NOTHING, Stays.CONTROL}:
            raise ValueError(
                f"evaluation.select best: with strategy {self.strategy.name} sites keep weights of their own "
                "of the last round; leave one of them out"
            )
        return self

    @model_validator(mode="after")
    def _strategy_fits(self) -> "Plan":
        name, method, training = self.strategy.name, self.strategy.method, self.training
        if self.privacy is not None and not method.private:
            raise ValueError(
                f"strategy {name} keeps tensors at the sites that privacy does not account for; leave one of "
                "them out"
            )
        if method.plain_sgd and (training.optimizer != "sgd" or training.momentum != 0.0):
            raise ValueError(
                f"strategy {name} is defined for plain SGD: set training.optimizer sgd and training.momentum "
                "0.0"
            )
        if method.plain_sgd and training.early_stopping is not None:
            raise ValueError(f"strategy {name} needs all steps of a round: leave training.early_stopping out")
        return self

    @model_validator(mode="after")
    def _secure_sums_are_sums(self) -> "Plan":
        if self.aggregation.secure and not self.strategy.method.linear:
            raise ValueError(
                f"strategy {self.strategy.name} looks at single updates, which aggregation.secure hides; "
                "leave one of them out"
            )
        if self.aggregation.secure and self.codec.top < 1.0:
            raise ValueError(
                "codec.top leaves out most numbers, under aggregation.secure all are sent; leave one of them "
                "out"
            )
        if self.aggregation.secure and self.evaluation.cross:
            raise ValueError(
                "evaluation.cross shows each site's own model, aggregation.secure hides it; leave one "
                "of them out"
            )
        return self

    @model_serializer(mode="wrap")
    def _as_agreed(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Without the keys of later versions that say nothing new: the hash stays what hospitals approved."""
        return _without_later(self, handler(self), self.always)

    always: ClassVar[frozenset[str]] = frozenset()
    """Keys that a plan's extension writes out, whatever they say."""

    @property
    def canonical(self) -> str:
        """The plan's JSON, the same for the same plan: sorted keys, no spaces, defaults written out (but for
        keys that came after version 0.1: common/first_plan.py)."""
        return canonical_json(self.model_dump(mode="json"))

    @property
    def sha256(self) -> str:
        """Hex SHA-256 of the canonical JSON."""
        return hashlib.sha256(self.canonical.encode()).hexdigest()


def _without_later(
    settings: Settings, tree: dict[str, object], always: frozenset[str], prefix: str = ""
) -> dict[str, object]:
    for name, field in type(settings).model_fields.items():
        key, value = prefix + name, getattr(settings, name)
        if name not in tree or key in always:
            continue
        if isinstance(value, Settings) and isinstance(inner := tree[name], dict):
            _without_later(value, inner, always, f"{key}.")
        if key not in FIRST_KEYS and value == field.get_default(call_default_factory=True):
            del tree[name]
    return tree


def require_current(plan: Plan) -> None:
    """Before a run: what was agreed on with an earlier version can be read, and its models used; but no run
    starts, or goes on, by a rule that is gone.

    Raises:
        ConfigError: says what to set.
    """
    if plan.evaluation.threshold == "accuracy":
        raise ConfigError(
            "evaluation.threshold: accuracy is gone, it calls nobody, or everybody, where one class is rare: "
            "set youden, or sensitivity with evaluation.sensitivity"
        )


def evaluates(plan: Plan, number: int) -> bool:
    """Whether the sites judge the global model after round `number`: under privacy, where a patient pays for
    each time, after the last one alone, and if the plan says so (common/soft_counts.py)."""
    if plan.privacy is not None:
        return plan.privacy.threshold and number == plan.rounds
    every = plan.evaluation.every
    due = every > 0 and (number % every == 0 or number == plan.rounds)
    return due and number > 0 and plan.split.validation > 0


def canonical_json(tree: object) -> str:
    """JSON that depends on the values alone, not on key order or spacing."""
    return json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
