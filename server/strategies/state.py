"""What a Flower strategy remembers between rounds (momentum, moments), to and from plain arrays.

Flower keeps it in attributes: a dict of arrays (FedAdam's `m_t`), a list (FedAvgM's `momentum_vector`) or an
ArrayRecord (`current_arrays`). Each array is named `attribute|kind|key`, so that it can be put back as it was.
"""

from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord
from flwr.serverapp.strategy import Strategy
from numpy.typing import NDArray

State = dict[str, NDArray[Any]]


def snapshot_state(strategy: Strategy) -> State:
    """Every array that the strategy holds. Names are stable; values are the strategy's own arrays."""
    state: State = {}
    for attribute, value in vars(strategy).items():
        if isinstance(value, ArrayRecord):
            state |= {f"{attribute}|record|{key}": array.numpy() for key, array in value.items()}
        elif isinstance(value, dict) and all(isinstance(a, np.ndarray) for a in value.values()):
            state |= {f"{attribute}|dict|{key}": array for key, array in value.items()}
        elif isinstance(value, list) and all(isinstance(a, np.ndarray) for a in value):
            state |= {f"{attribute}|list|{i:06d}": array for i, array in enumerate(value)}
    return state


def restore_state(strategy: Strategy, state: State) -> None:
    """Put a snapshot back into a freshly built strategy of the same kind."""
    grouped: dict[tuple[str, str], State] = {}
    for name, array in state.items():
        attribute, kind, key = name.split("|", 2)
        grouped.setdefault((attribute, kind), {})[key] = array
    for (attribute, kind), arrays in grouped.items():
        value: Any = arrays
        if kind == "list":
            value = [arrays[key] for key in sorted(arrays)]
        elif kind == "record":
            value = ArrayRecord({key: Array(array) for key, array in arrays.items()})
        setattr(strategy, attribute, value)
