"""Aggregation rules: Flower's own by name, and the state that a checkpoint must keep of them."""

from server.strategies.flower import (
    asked_of,
    build_strategy,
    is_linear,
    is_mean,
    least_sites,
    require_enough_sites,
    to_flower,
    too_few,
)
from server.strategies.state import restore_state, snapshot_state

__all__ = [
    "asked_of",
    "build_strategy",
    "is_linear",
    "is_mean",
    "least_sites",
    "require_enough_sites",
    "restore_state",
    "snapshot_state",
    "to_flower",
    "too_few",
]
