"""One file a round, whole or not there: weights, the strategy's state and the history. What `--resume`
continues from."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from common.errors import RunError
from common.files import write_atomically
from common.wire import Weights

FORMAT = "pneumofed-checkpoint-1"
NAME = "checkpoint.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """A run after `round` rounds (0: before the first)."""

    round: int
    weights: Weights
    strategy: dict[str, NDArray[Any]] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)


def save_checkpoint(folder: Path, checkpoint: Checkpoint, plan_sha256: str) -> None:
    """Write `folder`/checkpoint.safetensors: a kill at any moment leaves the old one or the new one."""
    tensors = {f"weights/{name}": w for name, w in checkpoint.weights.items()}
    tensors |= {f"strategy/{name}": np.ascontiguousarray(a) for name, a in checkpoint.strategy.items()}
    about = {
        "format": FORMAT,
        "plan_sha256": plan_sha256,
        "round": str(checkpoint.round),
        "history": json.dumps(checkpoint.history),
    }
    write_atomically(folder / NAME, save(tensors, metadata=about))


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
            about = file.metadata() or {}
            if about.get("format") != FORMAT:
                raise RunError(f"{path}: found format {about.get('format')!r}, expected {FORMAT}")
            if about["plan_sha256"] != plan_sha256:
                raise RunError(
                    f"{path}: belongs to plan {about['plan_sha256'][:12]}, the plan given is "
                    f"{plan_sha256[:12]}; "
                    "resume with the plan that the run was started with, or use another directory"
                )
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            return Checkpoint(
                int(about["round"]),
                _under("weights/", tensors),
                _under("strategy/", tensors),
                json.loads(about["history"]),
            )
    except (SafetensorError, OSError, KeyError, ValueError) as e:
        raise RunError(
            f"{path}: not a readable checkpoint ({type(e).__name__}); use another directory"
        ) from None


def _under(prefix: str, tensors: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): a for name, a in tensors.items() if name.startswith(prefix)}
