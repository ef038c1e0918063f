"""Strategies by the names in the plan: Flower's, as they are, and SCAFFOLD."""

import inspect
from collections.abc import Mapping

import numpy as np
from flwr.app import Array, ArrayRecord
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import FedAvg, Strategy
from numpy.typing import NDArray

from common import wire
from common.errors import ConfigError
from common.plan import STATEFUL, Plan
from server.strategies.scaffold import Scaffold

LINEAR = ("FedAvg", "FedProx", "FedAvgM", "FedAdam", "FedYogi", "FedAdagrad", *STATEFUL)
"""These see the replies only through their weighted mean: one pre-averaged reply gives the same result as
all."""

_OURS = {
    "fraction_train", "fraction_evaluate", "min_train_nodes", "min_evaluate_nodes", "min_available_nodes",
    "weighted_by_key", "arrayrecord_key", "configrecord_key", "train_metrics_aggr_fn",
    "evaluate_metrics_aggr_fn",
}  # fmt: skip


def is_linear(plan: Plan) -> bool:
    """Whether the plan's strategy needs only the weighted mean of the replies."""
    return plan.strategy.name in LINEAR


def build_strategy(plan: Plan) -> Strategy:
    """The plan's strategy. How many sites take part and must answer is the round loop's business, not the
    strategy's.

    Raises:
        ConfigError: an option that the strategy does not have, or that it refuses.
    """
    cls, at_site = _class_of(plan.strategy.name)
    known = [name for name in inspect.signature(cls).parameters if name not in _OURS] + list(at_site)
    for option in plan.strategy.options:
        if option not in known:
            expected = ", ".join(known) or "no options"
            raise ConfigError(
                f"strategy.options.{option}: {plan.strategy.name} does not have it; it has {expected}"
            )
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
            **{k: v for k, v in plan.strategy.options.items() if k not in at_site},  # type: ignore[arg-type]
        )
    except (ValueError, TypeError) as e:
        raise ConfigError(f"strategy.options: {plan.strategy.name}: {e}") from None


def _class_of(name: str) -> tuple[type[FedAvg], tuple[str, ...]]:
    """The server's class, and the options that only sites read. FedBN, FedPer and Ditto differ from FedAvg at
    the sites alone."""
    if name == "SCAFFOLD":
        return Scaffold, ()
    if name in STATEFUL:
        return FedAvg, ("lambda_",) if name == "Ditto" else ()
    cls: type[FedAvg] = getattr(flower, name)
    return cls, ()


def require_enough_sites(plan: Plan, n_sites: int) -> None:
    """Refuse a robust rule that so few sites cannot support. One site alone is no federation: any rule is the
    identity.

    Raises:
        ConfigError: Krum needs n >= 2 f + 3 (Blanchard et al., 2017), Bulyan n >= 4 f + 3 (El Mhamdi et al.,
        2018) with f hostile
            sites; a trimmed mean must cut off at least one on each side and leave one (Yin et al., 2018), a
            median needs three.
    """
    name, options = plan.strategy.name, plan.strategy.options
    if n_sites == 1:
        return
    hostile = int(options.get("num_malicious_nodes", 0))
    needed = {
        "Krum": 2 * hostile + 3,
        "MultiKrum": 2 * hostile + 3,
        "Bulyan": 4 * hostile + 3,
        "FedMedian": 3,
    }.get(name, 1)
    if n_sites < needed:
        against = (
            f" against {hostile} hostile ones (num_malicious_nodes)" if name not in ("FedMedian",) else ""
        )
        raise ConfigError(
            f"strategy {name}: found {n_sites} sites, it needs at least {needed}{against}; choose another "
            "strategy"
        )
    if name == "FedTrimmedAvg":
        beta = float(options.get("beta", 0.2))
        cut = int(beta * n_sites)
        if cut == 0 or n_sites - 2 * cut < 1:
            raise ConfigError(
                f"strategy FedTrimmedAvg: beta {beta:g} of {n_sites} sites cuts off {cut} on each side; "
                "expected at least one cut "
                "and one left: change strategy.options.beta"
            )


def to_flower(weights: Mapping[str, NDArray[np.float32]]) -> ArrayRecord:
    """Named float32 arrays as Flower's strategies read them: one array a tensor. On the wire they are packed
    (common/wire.py)."""
    return ArrayRecord({name: Array(np.asarray(w, dtype=np.float32)) for name, w in weights.items()})
