"""A run's first weights. A server makes them in a process of its own: it never loads torch, which takes half
a gigabyte for as long as the server lives."""

import json
import multiprocessing as mp
from multiprocessing.connection import Connection
from pathlib import Path

from safetensors import safe_open
from safetensors.numpy import save

from common import wire
from common.errors import ConfigError, PneumofedError, RunError
from common.plan import Plan

FIRST = "first.safetensors"
"""In a run's folder, until it is finished."""


def made_apart(plan: Plan, pretrained: Path | None) -> bytes:
    """The plan's starting weights, made by another process, as a file's content.

    Raises:
        ConfigError: `pretrained` is not the file that the plan names.
        RunError: that process ended without a word.
    """
    context = mp.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_make, args=(theirs, plan, pretrained), daemon=True)
    process.start()
    theirs.close()
    try:
        said, content = ours.recv_bytes(), ours.recv_bytes()
    except EOFError:
        process.join()
        raise RunError(
            f"the process that makes the first weights ended with code {process.exitcode}; is there memory "
            "for the model?"
        ) from None
    finally:
        ours.close()
    process.join()
    if said:
        raise ConfigError(said.decode())
    return content


def _make(pipe: "Connection[object, object]", plan: Plan, pretrained: Path | None) -> None:
    said, content = "", b""
    try:
        from common.models.pretrained import starting_weights

        weights = starting_weights(plan, pretrained)
        content = save(weights, metadata={"names": json.dumps(list(weights))})
    except PneumofedError as e:
        said = str(e)
    pipe.send_bytes(said.encode())
    pipe.send_bytes(content)


def read_first(file: Path) -> wire.Weights:
    """What `made_apart` made, in the order in which it was made."""
    with safe_open(file, framework="numpy") as tensors:
        names: list[str] = json.loads((tensors.metadata() or {})["names"])
        return {name: tensors.get_tensor(name) for name in names}
