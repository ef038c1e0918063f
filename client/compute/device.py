"""Where a site trains, and how its process is set up for it."""

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
    if kind != "cuda" or not (index or "0").isdigit():
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
    """bf16 on a GPU, nothing on a CPU: there, results stay exact and repeatable."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


def set_up_process(threads: int | None = None) -> None:
    """Once a process: repeatable kernels on the CPU, and memory that is kept between steps."""
    # What torch.use_deterministic_algorithms calls, less its import of torch's compiler: three seconds in
    # each process.
    torch._C._set_deterministic_algorithms(not torch.cuda.is_available(), warn_only=False)
    # It would also fill every new tensor with NaN, to show code that reads what was never written: a tenth of
    # a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if threads is not None:
        torch.set_num_threads(threads)
    keep_memory()
