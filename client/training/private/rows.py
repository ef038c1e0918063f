"""Which rows of a tensor belong to which patient: frames, time steps and sequences are all rows of
somebody."""

import torch
from torch import Tensor


class Rows:
    """`owner[i]` is the patient (0 … n_patients - 1) of row `i`; the rows themselves lie on `device`.

    All is worked out in the host's memory, where `owner` is: a GPU is never waited for.

    Shapes: n rows, P patients, R the most rows that a patient has.
    """

    def __init__(self, owner: Tensor, n_patients: int, device: torch.device) -> None:
        self.n_patients = n_patients
        counts = torch.bincount(owner, minlength=n_patients)
        self.most = int(counts.max())
        index = torch.full((n_patients, self.most), len(owner))
        index[owner, positions(owner, counts)] = torch.arange(len(owner))
        self._ragged = n_patients * self.most != len(owner)
        self._index = index.to(device, non_blocking=True)
        self.owner, self.counts = (t.to(device, non_blocking=True) for t in (owner, counts))

    def gather(self, x: Tensor) -> Tensor:
        """(n, …) -> (P, R, …), zeros where a patient has fewer rows."""
        padded = torch.cat([x, x.new_zeros(1, *x.shape[1:])]) if self._ragged else x
        return padded[self._index]

    def sum(self, x: Tensor) -> Tensor:
        """(n, …) -> (P, …), each patient's rows added up."""
        return x.new_zeros(self.n_patients, *x.shape[1:]).index_add_(0, self.owner, x)

    def spread(self, factors: Tensor) -> Tensor:
        """(P,) -> (n,), each row gets its patient's factor."""
        return factors[self.owner]


class PackedRows(Rows):
    """Rows in the order (first of every patient), (second of every patient that has one), …

    Patients are numbered by falling count, so that each step is a block of the first n patients: what a
    grouped convolution can read without copying.
    """

    def __init__(self, owner: Tensor, n_patients: int, device: torch.device) -> None:
        super().__init__(owner, n_patients, device)
        counts = torch.bincount(owner, minlength=n_patients)
        if bool((counts[1:] > counts[:-1]).any()):
            raise ValueError("patients must be numbered by falling number of rows")
        active = [int((counts > step).sum()) for step in range(self.most)]
        self.runs: list[tuple[int, int, int]] = []
        """(first row, steps, patients) of each run of steps with the same patients."""
        row = 0
        for n in active:
            if self.runs and self.runs[-1][2] == n:
                first, steps, _ = self.runs[-1]
                self.runs[-1] = (first, steps + 1, n)
            else:
                self.runs.append((row, 1, n))
            row += n


def packing(owner: Tensor, n_patients: int, device: torch.device) -> tuple[Tensor, PackedRows]:
    """Order that packs rows with these owners (already numbered by falling count), and the rows in that
    order; both on `device`."""
    position = positions(owner, torch.bincount(owner, minlength=n_patients))
    order = torch.argsort(position * n_patients + owner)
    return order.to(device, non_blocking=True), PackedRows(owner[order], n_patients, device)


def positions(owner: Tensor, counts: Tensor) -> Tensor:
    """(n,) which of its patient's rows each row is, counted from 0; `counts` are the patients' rows."""
    order = torch.argsort(owner, stable=True)
    starts = torch.cumsum(counts, 0) - counts
    position = torch.empty_like(owner)
    position[order] = torch.arange(len(owner)) - starts[owner[order]]
    return position
