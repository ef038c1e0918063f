"""Where a site trains, and how its process is set up for it."""

import os

import torch

from common.errors import ConfigError
from common.malloc import keep_memory


def choose_device(name: str) -> torch.device:
    """`auto` (the first GPU if there is one), `cpu`, `cuda` or `cuda:n` -> a device that exists.

    Raises:
        ConfigError: the name is unknown, or this machine has no such GPU.
    """
    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda:0" if n_gpus else "cpu")
    if name == "cpu":
        return torch.device("cpu")
    kind, _, index = name.partition(":")
    if kind != "cuda" or not (index or "0").isdecimal():
        raise ConfigError(f"device: found {name!r}, expected auto, cpu, cuda or cuda:n")
    if int(index or 0) >= n_gpus:
        raise ConfigError(
            f"device: found {name!r}, but this machine has {n_gpus} usable GPUs; use auto or cpu"
        )
    return torch.device(f"cuda:{int(index or 0)}")


def describe(device: torch.device) -> str:
    """For the report: `cpu (2 threads)` or `cuda:0 (NVIDIA H200, bf16)`."""
    if device.type == "cpu":
        return f"cpu ({torch.get_num_threads()} threads)"
    return f"{device} ({torch.cuda.get_device_name(device)}, bf16)"


def autocast(device: torch.device) -> torch.autocast:
    """Of training: bf16 on a GPU, nothing on a CPU. What judges or clips is never rounded so."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


def set_up_process(threads: int | None = None) -> None:
    """Once a process, before it uses a GPU: repeatable kernels, float32 that is float32, and memory that is
    kept between steps."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS does not repeat itself
    # What torch.use_deterministic_algorithms calls, less its import of torch's compiler: three seconds in
    # each process.
    torch._C._set_deterministic_algorithms(True, warn_only=False)
    # A GPU's convolutions would keep ten bits of each number: a private sum would then not be bounded by the
    # norms that were taken of it, and a score not be the CPU's.
    torch.backends.cudnn.allow_tf32 = False
    # It would also fill every new tensor with NaN, to show code that reads what was never written: a tenth of
    # a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if threads is not None:
        torch.set_num_threads(threads)
    keep_memory()
