"""Cohort -> padded batches on the training device, without decoding anything again."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from client.imaging.cohort import Cohort

AHEAD = 2
"""Batches that are read for a GPU before it asks for them."""


@dataclass(frozen=True)
class Batch:
    """B sequences, padded with zeros to the longest of them (T frames)."""

    frames: Tensor  # (B, T, H, W) uint8 or uint16 from the cohort, float32 in [0, 1] on the device
    gaps: Tensor  # (B, T) float32
    lengths: Tensor  # (B,) int64, always in the host's memory
    labels: Tensor  # (B, K) float32, NaN where unknown

    def to(self, device: torch.device) -> "Batch":
        """Copy to `device` and bring grey values to [0, 1] there: a quarter of the bytes cross."""
        top = torch.iinfo(self.frames.dtype).max
        frames = self.frames.to(device, non_blocking=True).to(torch.float32).div_(top)
        gaps, labels = (t.to(device, non_blocking=True) for t in (self.gaps, self.labels))
        return Batch(frames, gaps, self.lengths, labels)

    def pinned(self) -> "Batch":
        """In page-locked memory, from which a GPU copies while it computes."""
        frames, gaps, labels = (t.pin_memory() for t in (self.frames, self.gaps, self.labels))
        return Batch(frames, gaps, self.lengths, labels)


def collate(cohort: Cohort, indices: NDArray[np.intp]) -> Batch:
    """Sequences `indices` of the cohort as one padded batch in ordinary memory."""
    lengths = cohort.lengths[indices]
    frames, gaps = cohort.padded(indices)
    return Batch(*(torch.from_numpy(a) for a in (frames, gaps, lengths, cohort.labels[indices])))


def in_batches(
    cohort: Cohort,
    indices: NDArray[np.intp],
    batch_size: int,
    device: torch.device,
    shuffle: torch.Generator | None = None,
) -> Iterator[Batch]:
    """Every sequence once, in batches on `device`; in the given order, or shuffled by `shuffle`."""
    order = indices if shuffle is None else indices[torch.randperm(len(indices), generator=shuffle).numpy()]
    return read_ahead(cohort, [order[k : k + batch_size] for k in range(0, len(order), batch_size)], device)


def read_ahead(cohort: Cohort, chunks: list[NDArray[np.intp]], device: torch.device) -> Iterator[Batch]:
    """A batch a chunk of sequences, on `device`: while a GPU works on some, a thread reads the next from the
    file into pinned memory."""
    if device.type != "cuda":
        yield from (collate(cohort, chunk).to(device) for chunk in chunks)
        return
    with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as pool:
        ahead: deque[Future[Batch]] = deque()
        for chunk in chunks:
            ahead.append(pool.submit(lambda c: collate(cohort, c).pinned(), chunk))
            if len(ahead) > AHEAD:
                yield ahead.popleft().result().to(device)
        while ahead:
            yield ahead.popleft().result().to(device)
