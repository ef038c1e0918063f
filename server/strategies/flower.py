"""Strategies by the names in the plan: Flower's, as they are, and SCAFFOLD."""

from collections.abc import Mapping

import numpy as np
from flwr.app import Array, ArrayRecord
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import FedAvg, Strategy
from numpy.typing import NDArray

from common import wire
from common.errors import ConfigError
from common.plan import Plan
from server.strategies.scaffold import Scaffold

AGGREGATES: dict[str, type[FedAvg]] = {"SCAFFOLD": Scaffold}
"""Methods that aggregate otherwise than Flower's of their name; those that Flower does not have are FedAvg at
the server."""


def is_linear(plan: Plan) -> bool:
    """Whether the plan's strategy needs only the weighted mean of the replies."""
    return plan.strategy.method.linear


def build_strategy(plan: Plan) -> Strategy:
    """The plan's strategy. How many sites take part and must answer is the round loop's business, not the
    strategy's.

    Raises:
        ConfigError: Flower refuses an option.
    """
    name, known = plan.strategy.name, plan.strategy.method.options
    rule: type[FedAvg] = AGGREGATES[name] if name in AGGREGATES else getattr(flower, name, FedAvg)
    given = {
        k: int(v) if known[k].whole else v for k, v in plan.strategy.options.items() if not known[k].at_site
    }
    try:
        return rule(
            fraction_train=plan.federation.participation,
            fraction_evaluate=1.0,
            min_train_nodes=1,
            min_evaluate_nodes=1,
            min_available_nodes=1,
            weighted_by_key=wire.N_EXAMPLES,
            arrayrecord_key=wire.ARRAYS,
            configrecord_key=wire.CONFIG,
            **given,  # type: ignore[arg-type]
        )
    except (ValueError, TypeError) as e:
        raise ConfigError(f"strategy.options: {name}: {e}") from None


def require_enough_sites(plan: Plan, n_sites: int) -> None:
    """Refuse a rule that the sites which a round asks, of so many, cannot support. One site alone is no
    federation: there a robust rule takes the one update as it is.

    Raises:
        ConfigError: says how many are needed.
    """
    objection = too_few(plan, asked_of(plan, n_sites))
    if n_sites > 1 and objection is not None:
        share = plan.federation.participation
        more = f" (federation.participation {share:g} asks so many)" if share < 1.0 else ""
        raise ConfigError(f"strategy {plan.strategy.name}: {objection}{more}; choose another strategy")


def too_few(plan: Plan, n_sites: int) -> str | None:
    """Why the plan's rule cannot work with the updates of so many sites of a federation, or None."""
    return plan.strategy.method.too_few(n_sites, plan.strategy.options)


def asked_of(plan: Plan, n_sites: int) -> int:
    """How many of so many sites a round asks, as Flower's strategies draw them."""
    return max(1, int(plan.federation.participation * n_sites))


def least_sites(plan: Plan) -> int:
    """How many sites must be there for a round that the plan's rule can work with."""
    return next((n for n in range(1, MOST_SITES) if too_few(plan, asked_of(plan, n)) is None), MOST_SITES)


MOST_SITES = 10_000


def is_mean(strategy: Strategy) -> bool:
    """Whether the next weights are the mean itself: then no weights need to pass through Flower, which copies
    them five times."""
    return type(strategy).aggregate_train is FedAvg.aggregate_train


def to_flower(weights: Mapping[str, NDArray[np.float32]]) -> ArrayRecord:
    """Named float32 arrays as Flower's strategies read them: one array a tensor. On the wire they are packed
    (common/wire.py)."""
    return ArrayRecord({name: Array(np.asarray(w, dtype=np.float32)) for name, w in weights.items()})
