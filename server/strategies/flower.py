"""Flower's strategies, as they are, by the names in the plan."""

import inspect
from collections.abc import Mapping

import numpy as np
from flwr.app import Array, ArrayRecord
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import FedAvg, Strategy
from numpy.typing import NDArray

from common import wire
from common.errors import ConfigError
from common.plan import Plan

LINEAR = ("FedAvg", "FedProx", "FedAvgM", "FedAdam", "FedYogi", "FedAdagrad")
"""These see the replies only through their weighted mean: one pre-averaged reply gives the same result as all."""

_OURS = {
    "fraction_train", "fraction_evaluate", "min_train_nodes", "min_evaluate_nodes", "min_available_nodes",
    "weighted_by_key", "arrayrecord_key", "configrecord_key", "train_metrics_aggr_fn", "evaluate_metrics_aggr_fn",
}  # fmt: skip


def is_linear(plan: Plan) -> bool:
    """Whether the plan's strategy needs only the weighted mean of the replies."""
    return plan.strategy.name in LINEAR


def build_strategy(plan: Plan) -> Strategy:
    """The plan's strategy. How many sites take part and must answer is the round loop's business, not the strategy's.

    Raises:
        ConfigError: an option that the strategy does not have, or that it refuses.
    """
    cls: type[FedAvg] = getattr(flower, plan.strategy.name)
    known = [name for name in inspect.signature(cls).parameters if name not in _OURS]
    for option in plan.strategy.options:
        if option not in known:
            expected = ", ".join(known) or "no options"
            raise ConfigError(f"strategy.options.{option}: {plan.strategy.name} does not have it; it has {expected}")
    try:
        return cls(
            fraction_train=plan.federation.participation,
            fraction_evaluate=1.0,
            min_train_nodes=1,
            min_evaluate_nodes=1,
            min_available_nodes=1,
            weighted_by_key=wire.N_EXAMPLES,
            arrayrecord_key=wire.ARRAYS,
            configrecord_key=wire.CONFIG,
            **plan.strategy.options,  # type: ignore[arg-type]
        )
    except (ValueError, TypeError) as e:
        raise ConfigError(f"strategy.options: {plan.strategy.name}: {e}") from None


def to_flower(weights: Mapping[str, NDArray[np.float32]]) -> ArrayRecord:
    """Named float32 arrays as Flower's strategies read them: one array a tensor. On the wire they are packed (common/wire.py)."""
    return ArrayRecord({name: Array(np.asarray(w, dtype=np.float32)) for name, w in weights.items()})
