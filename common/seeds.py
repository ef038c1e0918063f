"""Every random choice has a seed of its own, derived by name: order of execution and restarts change
nothing."""

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # an agent and an idle server do without torch, which takes seconds and half a gigabyte
    import torch


def derive_seed(seed: int, *parts: str | int) -> int:
    """A 63-bit seed for one purpose, for example `derive_seed(plan.seed, "train", site, round)`.

    SHA-256 of the parts, so that neighbouring rounds or sites share nothing.
    """
    text = "\x1f".join(str(part) for part in (seed, *parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def torch_generator(seed: int, *parts: str | int) -> "torch.Generator":
    """A CPU generator for one purpose."""
    import torch

    return torch.Generator().manual_seed(derive_seed(seed, *parts))


def numpy_generator(seed: int, *parts: str | int) -> np.random.Generator:
    """A numpy generator for one purpose."""
    return np.random.default_rng(derive_seed(seed, *parts))
