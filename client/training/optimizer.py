"""SGD, Adam and AdamW by torch's own kernels, without `torch.optim.Optimizer`.

Creating the first Optimizer imports torch's compiler (`torch._dynamo`, sympy, …) because its methods are
wrapped by `torch._disable_dynamo`: about three seconds in each process, for nothing that we use. The
functions below are what the classes call inside; a test holds that the results are equal to theirs.
"""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from common.plan import Training


class Optimizer:
    """One site's optimiser for one round; its state (momentum, moments) starts empty."""

    def __init__(self, parameters: Iterable[Tensor], training: Training) -> None:
        self.parameters = [p for p in parameters if p.requires_grad]
        self.training = training
        self._momentum: list[Tensor | None] = [None] * len(self.parameters)
        if training.optimizer != "sgd":
            self._first = [torch.zeros_like(p) for p in self.parameters]
            self._second = [torch.zeros_like(p) for p in self.parameters]
            self._steps = [torch.zeros(()) for _ in self.parameters]

    def zero_grad(self) -> None:
        for p in self.parameters:
            p.grad = None

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """One step along the parameters' gradients, clipped to the plan's `clip_norm` together."""
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in self.parameters]
        if self.training.clip_norm is not None:
            clip_gradients(gradients, self.training.clip_norm)
        if self.training.optimizer == "sgd":
            sgd(
                self.parameters, gradients, self._momentum, foreach=True, lr=learning_rate,
                weight_decay=self.training.weight_decay, momentum=self.training.momentum,
                dampening=0.0, nesterov=False, maximize=False,
            )  # fmt: skip
            return
        kernel = adam if self.training.optimizer == "adam" else adamw
        kernel(
            self.parameters, gradients, self._first, self._second, [], self._steps, foreach=True,
            lr=learning_rate,
            beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=self.training.weight_decay, amsgrad=False,
            maximize=False,
        )  # fmt: skip


def clip_gradients(gradients: list[Tensor], largest: float) -> None:
    """Scale all gradients in place so that their joint L2 norm is at most `largest`, as clip_grad_norm_
    does."""
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    torch._foreach_mul_(gradients, (largest / (norm + 1e-6)).clamp(max=1.0))
