"""What crosses between a site and the server: record names, what each number means, and the schema of an update.

server -> site, `train` and `evaluate`:  ARRAYS   the global weights
                                         CONFIG   PLAN_SHA256, ROUND
server -> site, `query`:                 CONFIG   PLAN_SHA256
site -> server, `train`:                 ARRAYS   the update: local - global, one float32 tensor a weight
                                         METRICS  N_EXAMPLES and TRAIN_NUMBERS
site -> server, `evaluate`:              METRICS  N_EXAMPLES and EVALUATE_NUMBERS
site -> server, `query`:                 CONFIG   SITE;  METRICS  QUERY_NUMBERS
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from numpy.typing import NDArray
from torch import nn

from common.errors import WireError

ARRAYS = "arrays"
CONFIG = "config"
METRICS = "metrics"

PLAN_SHA256 = "plan-sha256"  # the plan that the server runs, hex
ROUND = "server-round"  # counted from 1; the name that Flower's strategies set
SITE = "site"  # the hospital's name
DEVICE = "device"  # what the site trains on: "cpu", "cuda:0 (NVIDIA H200)"

N_EXAMPLES = "num-examples"  # training (validation) patients behind the numbers; the name that Flower's strategies read
MAX_EXAMPLES = 2**24  # no hospital has more patients; bounds the exact sum in server/aggregate.py
LOSS = "loss"  # mean binary cross-entropy per patient and finding
STEPS = "steps"  # optimiser steps taken
SECONDS = "seconds"  # wall time of the training alone
AUROC = "auroc"  # mean over the plan's findings; NaN where only one class is present
AUROC_SE = "auroc-se"  # standard error of the former, bootstrap over patients
BRIER = "brier"  # mean squared error of the probabilities

TRAIN_NUMBERS = (LOSS, STEPS, SECONDS)
EVALUATE_NUMBERS = (LOSS, AUROC, AUROC_SE, BRIER)
N_TRAIN, N_VALIDATION, N_TEST = "n-train", "n-validation", "n-test"
QUERY_NUMBERS = (N_TRAIN, N_VALIDATION, N_TEST)

Weights = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Schema:
    """Names and shapes of the model's tensors. On the wire all of them are float32."""

    shapes: Mapping[str, tuple[int, ...]]

    @classmethod
    def of(cls, model: nn.Module) -> "Schema":
        return cls({name: tuple(tensor.shape) for name, tensor in model.state_dict().items()})

    @property
    def n_bytes(self) -> int:
        """Bytes of one set of weights, without Flower's headers."""
        return 4 * sum(int(np.prod(shape)) for shape in self.shapes.values())

    def check(self, record: ArrayRecord) -> Weights:
        """The record's tensors, if they are exactly the agreed ones and finite.

        Raises:
            WireError: a tensor is missing, extra, of another shape or type, or holds NaN or infinity; names it.
        """
        if missing := self.shapes.keys() - record.keys():
            raise WireError(f"tensor {min(missing)} is missing")
        if extra := record.keys() - self.shapes.keys():
            raise WireError(f"tensor {min(extra)} is not part of the model")
        return {name: self._check_one(name, record[name]) for name in self.shapes}

    def _check_one(self, name: str, array: Array) -> NDArray[np.float32]:
        # The header first: a hostile one must not make us decode a giant. 1 KiB is room for numpy's own header.
        expected = self.shapes[name]
        if tuple(array.shape) != expected or array.dtype != "float32":
            raise WireError(f"tensor {name}: found {array.dtype} {tuple(array.shape)}, expected float32 {expected}")
        if len(array.data) > 4 * int(np.prod(expected)) + 1024:
            raise WireError(f"tensor {name}: found {len(array.data)} bytes, more than its shape needs")
        try:
            values = array.numpy()
        except (ValueError, TypeError, EOFError, OSError):
            raise WireError(f"tensor {name}: its bytes are not a numpy array") from None
        if values.shape != expected or values.dtype != np.float32:
            raise WireError(f"tensor {name}: found {values.dtype} {values.shape}, expected float32 {expected}")
        if not np.isfinite(values).all():
            raise WireError(f"tensor {name}: holds NaN or infinity")
        return values


def l2_norm(weights: Mapping[str, NDArray[np.float32]]) -> float:
    """L2 norm over all tensors together, in float64."""
    return float(np.sqrt(sum(float(np.square(w, dtype=np.float64).sum()) for w in weights.values())))


def to_record(weights: Mapping[str, NDArray[np.float32]]) -> ArrayRecord:
    """Named float32 arrays -> Flower's record."""
    return ArrayRecord({name: Array(np.asarray(w, dtype=np.float32)) for name, w in weights.items()})


def get_weights(model: nn.Module) -> Weights:
    """The model's tensors as float32 arrays of their own memory."""
    # .clone(): on a CPU, .numpy() would share memory with weights that the next step changes.
    return {name: t.detach().to("cpu", torch.float32).clone().numpy() for name, t in model.state_dict().items()}


def set_weights(model: nn.Module, weights: Mapping[str, NDArray[np.float32]]) -> None:
    """Copy the arrays into the model, in place and on its device."""
    model.load_state_dict({name: torch.tensor(w) for name, w in weights.items()})


def check_numbers(content: RecordDict, names: tuple[str, ...]) -> dict[str, float]:
    """The reply's numbers, if they are exactly `names` and N_EXAMPLES > 0. NaN is allowed for what may be undefined.

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
    return {name: float(value) for name, value in numbers.items()}


def _metrics(content: RecordDict) -> MetricRecord:
    record = content.get(METRICS)
    if not isinstance(record, MetricRecord):
        raise WireError(f"the record {METRICS!r} is missing")
    return record


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
    return value


def get_round(content: RecordDict) -> int:
    """The round of a request, counted from 1. Raises WireError if it is not there."""
    record = content.get(CONFIG)
    value = record.get(ROUND) if isinstance(record, ConfigRecord) else None
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise WireError(f"found {ROUND} = {value!r}, expected a whole number from 1")
    return value
