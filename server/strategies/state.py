"""What a Flower strategy remembers between rounds (momentum, moments), to and from plain arrays.

Flower keeps it in attributes: a dict of arrays (FedAdam's `m_t`), a list (FedAvgM's `momentum_vector`) or an
ArrayRecord (`current_arrays`). Each array is named `attribute|kind|place|key`, so that it can be put back as
it was, in its place: Flower pairs some of them by order, and files keep none.
"""

import numpy as np
from flwr.app import Array, ArrayRecord
from flwr.serverapp.strategy import Strategy

from common.arrays import Reals

State = dict[str, Reals]


def snapshot_state(strategy: Strategy) -> State:
    """Every array that the strategy holds. Names are stable; values are the strategy's own arrays."""
    state: State = {}
    for attribute, value in vars(strategy).items():
        kind, arrays = _arrays_in(value)
        state |= {f"{attribute}|{kind}|{place:06d}|{key}": array for place, (key, array) in enumerate(arrays)}
    return state


def _arrays_in(value: object) -> tuple[str, list[tuple[str, Reals]]]:
    if isinstance(value, ArrayRecord):
        return "record", [(key, array.numpy()) for key, array in value.items()]
    if isinstance(value, dict) and all(isinstance(a, np.ndarray) for a in value.values()):
        return "dict", list(value.items())
    if isinstance(value, list) and all(isinstance(a, np.ndarray) for a in value):
        return "list", [("", array) for array in value]
    return "", []


def restore_state(strategy: Strategy, state: State) -> None:
    """Put a snapshot back into a freshly built strategy of the same kind."""
    grouped: dict[tuple[str, str], list[tuple[str, Reals]]] = {}
    for name in sorted(state):
        attribute, kind, _, key = name.split("|", 3)
        grouped.setdefault((attribute, kind), []).append((key, state[name]))
    for (attribute, kind), arrays in grouped.items():
        value: object = dict(arrays)
        if kind == "list":
            value = [array for _, array in arrays]
        elif kind == "record":
            value = ArrayRecord({key: Array(array) for key, array in arrays})
        setattr(strategy, attribute, value)
