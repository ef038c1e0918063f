"""One file a round, whole or not there: weights, the strategy's state and the history. What `--resume`
continues from."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from common.errors import RunError
from common.files import write_atomically
from common.plan import Plan
from common.results.rounds import Evaluation, History, history_text, parse_history
from common.secure.levels import Bounds
from common.selection import chosen_round, evaluation_of, verdicts_of
from common.wire import Weights
from server.strategies.state import State

FORMAT = "pneumofed-checkpoint-1"
NAME = "checkpoint.safetensors"
T = TypeVar("T")


@dataclass(frozen=True)
class Checkpoint:
    """A run after `round` rounds (0: before the first)."""

    round: int
    weights: Weights
    strategy: State = field(default_factory=dict)
    history: History = ()
    best: Weights = field(default_factory=dict)
    """Those of the round that the plan's selection chose; empty where that is the last one."""
    owed: Weights = field(default_factory=dict)
    """What rounding lost of the last step, under a plan with a codec (server/broadcast.py)."""
    bounds: Bounds = field(default_factory=dict)
    """How large the next round's numbers are taken to be, where they are masked (secure/levels.py)."""

    def chosen(self, plan: Plan) -> "Chosen":
        """What the run hands over, as it stands."""
        number = chosen_round(plan, verdicts_of(self.history), self.round)
        return Chosen(number, self.best or self.weights, evaluation_of(self.history, number))


@dataclass(frozen=True)
class Chosen:
    """The result of a run (common/selection.py)."""

    round: int
    weights: Weights
    evaluation: Evaluation | None
    """On validation patients, of these weights."""


def save_checkpoint(folder: Path, checkpoint: Checkpoint, plan_sha256: str) -> None:
    """Write `folder`/checkpoint.safetensors: a kill at any moment leaves the old one or the new one."""
    tensors = {f"weights/{name}": w for name, w in checkpoint.weights.items()}
    tensors |= {f"strategy/{name}": np.ascontiguousarray(a) for name, a in checkpoint.strategy.items()}
    tensors |= {f"best/{name}": w for name, w in checkpoint.best.items()}
    tensors |= {f"owed/{name}": w for name, w in checkpoint.owed.items()}
    metadata = {
        "format": FORMAT,
        "plan_sha256": plan_sha256,
        "round": str(checkpoint.round),
        "history": history_text(checkpoint.history),
    }
    if checkpoint.bounds:
        metadata["bounds"] = json.dumps(dict(checkpoint.bounds))
    write_atomically(folder / NAME, save(tensors, metadata=metadata))


def load_checkpoint(folder: Path, plan_sha256: str) -> Checkpoint | None:
    """The run's last checkpoint; None if it has none yet.

    Raises:
        RunError: the file is not a checkpoint, or belongs to another plan.
    """
    path = folder / NAME
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise RunError(f"{path}: found format {metadata.get('format')!r}, expected {FORMAT}")
            if metadata["plan_sha256"] != plan_sha256:
                raise RunError(
                    f"{path}: belongs to plan {metadata['plan_sha256'][:12]}, the plan given is "
                    f"{plan_sha256[:12]}; "
                    "resume with the plan, and the version, that the run was started with, or use another "
                    "directory"
                )
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            return Checkpoint(
                int(metadata["round"]),
                _under("weights/", tensors),
                _under("strategy/", tensors),
                parse_history(metadata["history"], str(path)),
                _under("best/", tensors),
                _under("owed/", tensors),
                json.loads(metadata.get("bounds", "{}")),
            )
    except (SafetensorError, OSError, KeyError, ValueError) as e:
        raise RunError(
            f"{path}: not a readable checkpoint ({type(e).__name__}); use another directory"
        ) from None


def _under(prefix: str, tensors: Mapping[str, T]) -> dict[str, T]:
    return {name.removeprefix(prefix): a for name, a in tensors.items() if name.startswith(prefix)}
