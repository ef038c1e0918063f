"""Aggregation rules: Flower's own by name, and the state that a checkpoint must keep of them."""

from server.strategies.flower import build_strategy, is_linear, to_flower
from server.strategies.state import restore_state, snapshot_state

__all__ = ["build_strategy", "is_linear", "restore_state", "snapshot_state", "to_flower"]
