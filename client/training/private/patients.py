"""A batch of patients: all of a patient's sequences (up to the plan's cap) are one sample."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from client.compute.batches import Batch, read_ahead
from client.imaging.cohort import Cohort


@dataclass(frozen=True)
class Patients:
    """Sequences of `count` patients. Patients are numbered by falling number of frames (rows.py says why)."""

    batch: Batch
    owner: Tensor  # (B,) int64: the patient of each sequence; in the host's memory, as the lengths are
    count: int

    def only(self, keep: Tensor) -> "Patients":
        """Those of `keep`, (count,) bool in the host's memory; at least one."""
        if keep.all():
            return self
        rows = keep[self.owner].nonzero().flatten()
        batch, there = self.batch, rows.to(self.batch.frames.device)
        lengths = batch.lengths[rows]
        frames, gaps = (t[there, : int(lengths.max())] for t in (batch.frames, batch.gaps))
        number = keep.cumsum(0) - 1
        return Patients(
            Batch(frames, gaps, lengths, batch.labels[there]), number[self.owner[rows]], int(keep.sum())
        )


def number_patients(lengths: NDArray[np.int64], patients: NDArray[np.str_]) -> tuple[NDArray[np.int64], int]:
    """(B,) number of each sequence's patient, 0 for the one with the most frames; and how many patients there
    are."""
    _, owner = np.unique(patients, return_inverse=True)
    frames = np.bincount(owner, weights=lengths)
    rank = np.empty(len(frames), np.int64)
    rank[np.argsort(-frames, kind="stable")] = np.arange(len(frames))
    return rank[owner], len(frames)


def sequences_by_patient(cohort: Cohort, indices: NDArray[np.intp], most: int) -> list[NDArray[np.intp]]:
    """The training sequences of each patient, the last `most` of them, in the cohort's order."""
    order = indices[np.argsort(cohort.patients[indices], kind="stable")]
    cuts = np.flatnonzero(cohort.patients[order][1:] != cohort.patients[order][:-1]) + 1
    return [group[-most:] for group in np.split(order, cuts)] if len(order) else []


def in_chunks(
    cohort: Cohort, chosen: list[NDArray[np.intp]], chunk: int | None, device: torch.device
) -> Iterator[Patients]:
    """The chosen patients (each the indices of its sequences), `chunk` patients at a time, on `device`."""
    size = chunk or max(1, len(chosen))
    chunks = [np.concatenate(chosen[start : start + size]) for start in range(0, len(chosen), size)]
    for indices, batch in zip(chunks, read_ahead(cohort, chunks, device), strict=True):
        owner, count = number_patients(cohort.lengths[indices], cohort.patients[indices])
        yield Patients(batch, torch.from_numpy(owner), count)
