"""What crosses between a site and the server: record names, what each number means, and the schema of an
update.

server -> site, `train` and `evaluate`:  ARRAYS   the global weights (SCAFFOLD: and its control variates)
                                         CONFIG   PLAN_SHA256, RUN, ROUND, and for training ANSWERED and
                                                  TENSOR_BYTES
                                         with a codec: WEIGHTS, and in ARRAYS nothing (the site holds them),
                                         their coded difference to those that it holds (BASE), or all of them
server -> site, `evaluate.final`:        the same, of the last round
server -> site, `evaluate.own`:          CONFIG   as before, and TENSOR_BYTES
server -> site, `evaluate.other`:        ARRAYS   the model that another site trained alone; CONFIG as before
server -> site, `query`:                 CONFIG   PLAN_SHA256, RUN, PLAN (for somebody there to approve)
site -> server, `train`:                 ARRAYS   the update: local - global, one float32 tensor a weight;
                                                  of what stays, zeros; with a codec, coded
                                         METRICS  N_EXAMPLES and TRAIN_NUMBERS
site -> server, `evaluate`:              METRICS  N_EXAMPLES and evaluate_numbers(the plan)
site -> server, `evaluate.final`:        CONFIG   FINAL: JSON, common/results/final.py
site -> server, `evaluate.own`:          ARRAYS   the model that it trained alone
                                         METRICS  N_EXAMPLES
site -> server, `evaluate.other`:        METRICS  N_EXAMPLES (test patients), AUROC
site -> server, `query`:                 CONFIG   SITE, DEVICE, with a codec HOLDS
                                         METRICS  query_numbers(the plan's findings)
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from numpy.typing import NDArray
from safetensors.numpy import save

from common import calibration, soft_counts
from common.arrays import BLOCK, Reals, blocks
from common.errors import WireError
from common.plan import Plan
from common.tensors import read_float32

if TYPE_CHECKING:  # a site's agent checks messages without torch, which takes seconds and half a gigabyte
    from torch import nn

ARRAYS = "arrays"
CONFIG = "config"
METRICS = "metrics"
PACKED = "safetensors"  # the one array of ARRAYS: all tensors as one safetensors file

PLAN_SHA256 = "plan-sha256"  # the plan that the server runs, hex
PLAN = "plan"  # the plan's canonical JSON: values, never code
RUN = "run"  # tells one run of a plan from the next; the same after a resume
ROUND = "server-round"  # counted from 1; the name that Flower's strategies set
ANSWERED = "answered"  # the last round of which the server has this site's update; 0: none
WEIGHTS = "weights-sha256"  # identity of the weights that a request is about (common/codec.py)
BASE = "base-sha256"  # identity of those that a coded difference is to
HOLDS = "holds-sha256"  # identity of the weights that lie at the site; empty: none
FINAL = "final"  # a site's final answer
EVALUATE_FINAL = "evaluate.final"  # the message type
EVALUATE_OWN, EVALUATE_OTHER = "evaluate.own", "evaluate.other"
CROSSING = frozenset({EVALUATE_OWN, EVALUATE_OTHER})  # of a plan with evaluation.cross
AT_END = CROSSING | {EVALUATE_FINAL}
TENSOR_BYTES = "tensor-bytes"  # the most that the tensors of the answer may have
SITE = "site"  # the hospital's name
DEVICE = "device"  # what the site trains on: "cpu", "cuda:0 (NVIDIA H200)"

# training (validation) patients behind the numbers; the name that Flower's strategies read
N_EXAMPLES = "num-examples"
MAX_EXAMPLES = 2**24  # no hospital has more patients; bounds the exact sum in common/aggregate.py
LOSS = "loss"  # mean binary cross-entropy per patient and finding
STEPS = "steps"  # optimiser steps taken
SECONDS = "seconds"  # wall time of the training alone
AUROC = "auroc"  # mean over the plan's findings; NaN where only one class is present
AUROC_SE = "auroc-se"  # standard error of the former, bootstrap over patients
BRIER = "brier"  # mean squared error of the probabilities

TRAIN_NUMBERS = (LOSS, STEPS, SECONDS)
EVALUATE_NUMBERS = (LOSS, AUROC, AUROC_SE, BRIER, *calibration.NUMBERS)
SHARE = "share"  # in the server alone: which share of all sites' weights an averaged reply holds
PRIVATE_WEIGHT = 1
"""N_EXAMPLES of every site under a plan with privacy: its real number of patients is not told, and all sites
count alike."""
N_TRAIN, N_VALIDATION, N_TEST = "n-train", "n-validation", "n-test"
SPLITS = (N_TRAIN, N_VALIDATION, N_TEST)
LENGTHS = (
    "length-1",
    "length-2-4",
    "length-5-8",
    "length-9+",
)  # training patients by images in their longest sequence

MAX_LOSS = 1e6
RANGES: Mapping[str, tuple[float, float]] = {
    AUROC: (0.0, 1.0), AUROC_SE: (0.0, 1.0), BRIER: (0.0, 1.0), STEPS: (0.0, 1e9), SECONDS: (0.0, 1e8),
    **dict.fromkeys((LOSS, *calibration.NUMBERS), (0.0, MAX_LOSS)),
}  # fmt: skip
"""What a number may be, where it is known; all others are counts of patients."""
MAX_JUDGED_LOSS = 16.2
"""Of an evaluation, whose probabilities are held to 1e-7 from 0 and 1: -ln(1e-7) = 16.12."""
_OF_ALL_SITES = ("advert", "roster", "sealed", "survivors", "signatures", "revealed")
"""Texts of secure aggregation (common/secure/messages.py)."""
MAX_TEXT, MAX_REASON, LONGEST = (
    200,
    400,
    {PLAN: 1_000_000, FINAL: 500_000, "signature": 400, **dict.fromkeys(_OF_ALL_SITES, 500_000)},
)
"""Characters of a text, and of the reason in an error reply."""

Weights = dict[str, NDArray[np.float32]]
Numbers = dict[str, float]
"""A reply's numbers by their names above; NaN where undefined."""
CONTROL = "control/"
"""SCAFFOLD's control variates cross beside the weights, by this and the weight's name."""

# Codes of a site's error replies, beside Flower's own (0 to 8).
SITE_REFUSES = 101  # RefusedError or WireError: the reason is made for the coordinator to read
SITE_FAILS = 102  # anything else that we raise: the reason is for the site's own log
SITE_CRASHED = 103  # what nobody foresaw, or the process that trains died


@dataclass(frozen=True)
class Schema:
    """Names and shapes of the model's tensors. On the wire all of them are float32."""

    shapes: Mapping[str, tuple[int, ...]]

    @classmethod
    def of(cls, model: "nn.Module") -> "Schema":
        return cls({name: tuple(tensor.shape) for name, tensor in model.state_dict().items()})

    @classmethod
    def of_weights(cls, weights: Mapping[str, Reals]) -> "Schema":
        return cls({name: w.shape for name, w in weights.items()})

    @classmethod
    def exchanged(cls, plan: Plan, model: "nn.Module") -> "Schema":
        """What crosses under a plan: the model's tensors, and SCAFFOLD's control variates beside them."""
        shapes = dict(cls.of(model).shapes)
        if plan.strategy.method.control:
            shapes |= {f"{CONTROL}{name}": shape for name, shape in shapes.items()}
        return cls(shapes)

    @property
    def of_model(self) -> "Schema":
        """The model's own tensors alone."""
        return Schema({name: shape for name, shape in self.shapes.items() if not name.startswith(CONTROL)})

    @property
    def n_bytes(self) -> int:
        """Bytes of one set of weights, without Flower's headers."""
        return 4 * sum(math.prod(shape) for shape in self.shapes.values())

    @property
    def packed_bytes(self) -> int:
        """The most bytes of what `pack` makes of them; 128: a tensor's entry in the header."""
        return self.n_bytes + 64 + sum(len(name) + 128 for name in self.shapes)

    def unpack(self, record: ArrayRecord) -> Weights:
        """What `pack` packed, if it is exactly the agreed tensors and finite.

        Raises:
            WireError: it is not one safetensors file of the agreed size, or `check` refuses a tensor.
        """
        if set(record) != {PACKED}:
            raise WireError(f"found the arrays {sorted(record)[:5]}, expected {PACKED} alone")
        data = record[PACKED].data
        most = self.packed_bytes
        if record[PACKED].stype != PACKED or len(data) > most:
            raise WireError(
                f"found {len(data)} bytes of {record[PACKED].stype[:40]!r}, expected at most {most} of "
                f"{PACKED}"
            )
        try:
            weights = read_float32(data, most - self.n_bytes)
        except ValueError as e:
            raise WireError(f"the tensors are not a readable safetensors file: {e}") from None
        return self.check(weights)

    def check(self, weights: Mapping[str, Reals]) -> Weights:
        """The tensors in the schema's order, if they are exactly the agreed ones and finite.

        Raises:
            WireError: a tensor is missing, extra, of another shape or type, or holds NaN or infinity; names
            it.
        """
        if missing := self.shapes.keys() - weights.keys():
            raise WireError(f"tensor {min(missing)} is missing")
        if extra := weights.keys() - self.shapes.keys():
            raise WireError(f"tensor {min(extra)[:80]} is not part of the model")
        for name, expected in self.shapes.items():
            array = weights[name]
            if array.shape != expected or array.dtype != np.float32:
                raise WireError(
                    f"tensor {name}: found {array.dtype} {array.shape}, expected float32 {expected}"
                )
            if not np.isfinite(array).all():
                raise WireError(f"tensor {name}: holds NaN or infinity")
        return {name: np.asarray(weights[name], np.float32) for name in self.shapes}


def model_part(weights: Mapping[str, NDArray[np.float32]]) -> Weights:
    """The model's own tensors, without what else a method sends."""
    return {name: w for name, w in weights.items() if not name.startswith(CONTROL)}


def control_part(weights: Mapping[str, NDArray[np.float32]]) -> Weights:
    """SCAFFOLD's control variates by the names of their weights; empty for other methods."""
    return {name.removeprefix(CONTROL): w for name, w in weights.items() if name.startswith(CONTROL)}


def l2_norm(weights: Mapping[str, NDArray[np.float32]]) -> float:
    """L2 norm over all tensors together, in float64."""
    squares, flat = np.empty(BLOCK, np.float64), [w.reshape(-1) for w in weights.values()]
    return math.sqrt(
        sum(
            float(np.square(w[b], dtype=np.float64, out=squares[: len(w[b])]).sum())
            for w in flat
            for b in blocks(len(w))
        )
    )


def pack(weights: Mapping[str, NDArray[np.float32]]) -> ArrayRecord:
    """Named float32 arrays -> Flower's record with one safetensors file in it.

    Flower moves every array as several objects, each a request of its own: one file instead of thirty arrays
    makes a round several times faster. The same tensors always give the same bytes.
    """
    return packed(save({name: np.ascontiguousarray(w, dtype=np.float32) for name, w in weights.items()}))


def packed(data: bytes) -> ArrayRecord:
    """The record around one safetensors file."""
    return ArrayRecord({PACKED: Array("uint8", (len(data),), PACKED, data)})


def let_go(arrays: ArrayRecord) -> None:
    """Of what was unpacked: Flower's records hold themselves, until Python looks for that."""
    for array in arrays.values():
        array.data = b""


def get_weights(model: "nn.Module") -> Weights:
    """The model's tensors as float32 arrays of their own memory."""
    import torch

    # .clone(): on a CPU, .numpy() would share memory with weights that the next step changes.
    return {
        name: t.detach().to("cpu", torch.float32).clone().numpy() for name, t in model.state_dict().items()
    }


def set_weights(model: "nn.Module", weights: Mapping[str, NDArray[np.float32]]) -> None:
    """Copy the arrays into the model, in place and on its device. What else a method sends beside them is
    passed over."""
    import torch

    given, state = model_part(weights), model.state_dict()
    if given.keys() != state.keys():
        raise KeyError(f"found {len(given)} tensors, expected the model's {len(state)}")
    with torch.no_grad():  # in place of load_state_dict, which takes twice as long
        for name, tensor in state.items():
            if given[name].shape != tuple(tensor.shape):
                raise ValueError(f"tensor {name}: found {given[name].shape}, expected {tuple(tensor.shape)}")
            tensor.copy_(torch.tensor(given[name]))


def check_numbers(content: RecordDict, names: tuple[str, ...]) -> Numbers:
    """The reply's numbers, if they are exactly `names` and N_EXAMPLES > 0. NaN is allowed for what may be
    undefined.

    Raises:
        WireError: a number is missing, extra or not a plain number, or N_EXAMPLES is not a positive count.
    """
    record = _metrics(content)
    if set(record) != {*names, N_EXAMPLES}:
        raise WireError(f"found the numbers {sorted(record)}, expected {sorted({*names, N_EXAMPLES})}")
    numbers = {name: value for name, value in record.items() if isinstance(value, (int, float))}
    if len(numbers) != len(record):
        raise WireError("found a list among the numbers, expected plain numbers")
    n = numbers[N_EXAMPLES]
    if not (isinstance(n, int) and 0 < n <= MAX_EXAMPLES):
        raise WireError(f"found {N_EXAMPLES} = {n}, expected a whole number from 1 to {MAX_EXAMPLES}")
    for name in names:
        noisy = soft_counts.NOISE in names
        low, high = (-MAX_EXAMPLES, MAX_EXAMPLES) if noisy else RANGES.get(name, (0.0, MAX_EXAMPLES))
        if name == LOSS and AUROC in names:
            high = MAX_JUDGED_LOSS
        if not (low <= numbers[name] <= high or math.isnan(numbers[name])):
            raise WireError(f"found {name} = {numbers[name]:.4g}, expected {low:g} to {high:g}")
        if name not in RANGES and not noisy and numbers[name] % 1 > 0:
            raise WireError(f"found {name} = {numbers[name]:.4g}, expected a whole number")
    return {name: float(value) for name, value in numbers.items()}


def _metrics(content: RecordDict) -> MetricRecord:
    record = content.get(METRICS)
    if not isinstance(record, MetricRecord):
        raise WireError(f"the record {METRICS!r} is missing")
    return record


def evaluate_numbers(plan: Plan) -> tuple[str, ...]:
    """What the answer to an evaluation holds: under privacy noisy counts, and the noise's deviation."""
    if plan.privacy is None:
        return EVALUATE_NUMBERS
    return (*soft_counts.names(plan.findings), soft_counts.NOISE)


def query_numbers(findings: tuple[str, ...]) -> tuple[str, ...]:
    """What the answer to a query counts, all of it patients: SPLITS, and of the training patients LENGTHS and
    labels."""
    return (*SPLITS, *LENGTHS, *(sign(finding) for finding in findings for sign in (positive, negative)))


def positive(finding: str) -> str:
    """Name of the count of training patients with a finding."""
    return f"positive:{finding}"


def negative(finding: str) -> str:
    """Name of the count of training patients without a finding."""
    return f"negative:{finding}"


def payload_bytes(message: Message) -> int:
    """Bytes of the tensors in a message: what a round costs on the network, less Flower's small headers."""
    if not message.has_content():
        return 0
    return sum(
        len(array.data) for record in message.content.array_records.values() for array in record.values()
    )


def get_arrays(content: RecordDict) -> ArrayRecord:
    """The message's ArrayRecord. Raises WireError if it has none."""
    record = content.get(ARRAYS)
    if not isinstance(record, ArrayRecord):
        raise WireError(f"the record {ARRAYS!r} is missing")
    return record


def get_text(content: RecordDict, key: str) -> str:
    """A text of the message's ConfigRecord. Raises WireError if it is not there."""
    record = content.get(CONFIG)
    value = record.get(key) if isinstance(record, ConfigRecord) else None
    if not isinstance(value, str):
        raise WireError(f"the text {key!r} is missing")
    if len(value) > (longest := LONGEST.get(key, MAX_TEXT)):
        raise WireError(f"the text {key!r} has {len(value)} characters, expected at most {longest}")
    return value


def get_identity(content: RecordDict, key: str) -> str:
    """WEIGHTS, BASE or HOLDS. Raises WireError if it is no SHA-256 in hex, nor empty."""
    text = get_text(content, key)
    if text and (len(text) != 64 or not set(text) <= set("0123456789abcdef")):
        raise WireError(f"the text {key!r} is not a SHA-256 in hex")
    return text


def get_answered(content: RecordDict, absent: int = 0) -> int:
    """ANSWERED of a request, or `absent`. Raises WireError if it is no count."""
    record = content.get(CONFIG)
    value = record.get(ANSWERED, absent) if isinstance(record, ConfigRecord) else absent
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise WireError(f"found {ANSWERED} = {value!r}, expected a whole number from 0")
    return value


def get_round(content: RecordDict, first: int = 1) -> int:
    """The round of a request, counted from 1; 0 is before the first, where that may be asked about (`first`
    0). Raises WireError if it is not there."""
    record = content.get(CONFIG)
    value = record.get(ROUND) if isinstance(record, ConfigRecord) else None
    if not isinstance(value, int) or isinstance(value, bool) or value < first:
        raise WireError(f"found {ROUND} = {value!r}, expected a whole number from {first}")
    return value
