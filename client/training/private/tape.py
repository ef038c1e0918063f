"""What a backward pass leaves: each patient's squared gradient norm so far, and how to finish the clipped
sum."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from client.training.private.rows import PackedRows, Rows

Finish = Callable[[Tensor], None]


class Tape:
    """Filled by the layers during one backward pass; `finish` turns clip factors into gradients
    ("book-keeping", Bu et al., 2023, "Differentially Private Optimization on Large Model at Small Cost")."""

    def __init__(self) -> None:
        self.frames: PackedRows | None = None
        self.steps: Rows | None = None
        self.sequences: Rows | None = None
        self._squares: Tensor | None = None
        self._finishes: list[Finish] = []
        self._seen: list[int] = []

    def start(self, frames: PackedRows, steps: Rows, sequences: Rows) -> None:
        """Begin a pass: whose the encoder's rows are, the time steps', and the sequences'."""
        self.frames, self.steps, self.sequences = frames, steps, sequences
        self._squares, self._finishes, self._seen = None, [], []

    def add(self, squares: Tensor, parameters: Sequence[Tensor], finish: Finish) -> None:
        """Note a layer: (P,) squared norms of its patients' gradients, its parameters, and what sums them."""
        self._squares = squares if self._squares is None else self._squares + squares
        self._finishes.append(finish)
        self._seen += [id(p) for p in parameters]

    def add_gradients(self, pairs: list[tuple[Tensor | None, Tensor | None]]) -> None:
        """Note a layer by its patients' gradients themselves: [(parameter, (P, …))]."""
        known = [(p, g.flatten(1)) for p, g in pairs if p is not None and g is not None and p.requires_grad]
        if not known:
            return

        def finish(factors: Tensor) -> None:
            for parameter, gradients in known:
                accumulate(parameter, gradients.t() @ factors)

        self.add(torch.stack([g.square().sum(1) for _, g in known]).sum(0), [p for p, _ in known], finish)

    def require_each_once(self, names: dict[int, str]) -> None:
        """Raise RuntimeError unless every parameter was noted exactly once: otherwise the norms would be
        wrong."""
        for number, name in names.items():
            if self._seen.count(number) != 1:
                raise RuntimeError(
                    f"{name} was used {self._seen.count(number)} times in a pass, expected once"
                )

    def norms(self) -> Tensor:
        """(P,) L2 norm of each patient's gradient over all parameters together."""
        assert self._squares is not None
        return self._squares.sqrt()

    @torch.no_grad()
    def finish(self, factors: Tensor) -> None:
        """Add the sum over patients of factor x gradient to every parameter's `.grad`."""
        for finish in self._finishes:
            finish(factors)
        self._finishes = []


def accumulate(parameter: Tensor | None, gradient: Tensor) -> None:
    """Add to `.grad`: chunks of patients add up exactly."""
    if parameter is None or not parameter.requires_grad:
        return
    gradient = gradient.view_as(parameter)
    parameter.grad = gradient.clone() if parameter.grad is None else parameter.grad + gradient
