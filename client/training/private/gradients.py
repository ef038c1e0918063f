"""The private gradient engine: the sum of clipped per-patient gradients of a CNN-LSTM, exactly, in one
backward pass.

It stands on the model's own modules, whose forward it replaces while it is attached; parameters, state_dict
and `nn.LSTM` are untouched. What it cannot do exactly it refuses by name.
"""

from collections.abc import Callable
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from client.training.private.layers import Conv, GroupNorm, LayerNorm, Linear, Placed, Scale
from client.training.private.patients import Patients
from client.training.private.recurrent import lstm
from client.training.private.rows import Rows, packing
from client.training.private.tape import Tape
from common.errors import ConfigError
from common.models.cnn_lstm import CNNLSTM
from common.models.vit import VisionTransformer

STABILITY = 1e-6  # as Opacus: min(1, C / (norm + 1e-6))


class PrivateGradients:
    """Attach to a model, then call `accumulate` for each chunk of patients."""

    def __init__(self, model: CNNLSTM, clip: float) -> None:
        """Raises ConfigError if a part of the model cannot be treated exactly."""
        self.model, self.clip = model, clip
        self._tape = Tape()
        self._order: Tensor | None = None
        self._unpacked: Rows | None = None  # whose the frames are, in the batch's order
        self._names = {id(p): name for name, p in model.named_parameters() if p.requires_grad}
        _require_unshared(model)
        for name, module in model.named_modules():
            self._attach(name, module)
        self._attach_model()

    def _attach(self, name: str, module: nn.Module) -> None:
        tape = self._tape
        rows = self._rows_of(name)
        if type(module) is nn.Conv2d:
            if (
                not name.startswith("encoder")
                or module.padding_mode != "zeros"
                or isinstance(module.padding, str)
            ):
                raise ConfigError(
                    f"{name}: a private plan needs convolutions in the encoder alone, padded with zeros by "
                    "number"
                )
            module.forward = MethodType(  # type: ignore[method-assign]
                lambda self, x: Conv.apply(x, self.weight, self.bias, self, tape), module
            )
        elif type(module) is nn.GroupNorm:
            module.forward = MethodType(  # type: ignore[method-assign]
                lambda self, x: GroupNorm.apply(x, self.weight, self.bias, self, tape, rows()), module
            )
        elif type(module) is nn.Linear:
            module.forward = MethodType(  # type: ignore[method-assign]
                lambda self, x: Linear.apply(x, self.weight, self.bias, self, tape, rows()), module
            )
        elif type(module) is nn.LayerNorm:
            module.forward = MethodType(  # type: ignore[method-assign]
                lambda self, x: LayerNorm.apply(x, self.weight, self.bias, self, tape, rows()), module
            )
        elif type(module) is VisionTransformer:
            module.placed = MethodType(  # type: ignore[method-assign]
                lambda self, x, at: Placed.apply(x, at, self.cls_token, self.pos_embed, self, tape), module
            )
        elif isinstance(module, nn.modules.batchnorm._NormBase):
            raise ConfigError(
                f"{name}: {type(module).__name__} mixes patients; a private plan needs GroupNorm"
            )
        elif not isinstance(module, (nn.LSTM, CNNLSTM)) and any(
            p.requires_grad for p in module.parameters(recurse=False)
        ):
            raise ConfigError(f"{name}: no exact per-patient gradient is known for {type(module).__name__}")

    def _rows_of(self, name: str) -> Callable[[], Rows | None]:
        """Whose rows a module sees: those of frames, or of sequences."""
        if name.startswith("encoder"):
            return lambda: self._tape.frames
        return lambda: self._tape.sequences

    def _attach_model(self) -> None:
        model, tape, encode = self.model, self._tape, self.model.encoder.forward

        def packed(x: Tensor) -> Tensor:
            assert self._order is not None
            rows = encode(x.index_select(0, self._order))
            unpacked = torch.empty_like(rows)
            unpacked[self._order] = rows
            return unpacked

        def scaled(rows: Tensor) -> Tensor:
            assert model.scale is not None
            whose, directions = self._unpacked, nn.functional.normalize(rows, dim=1)
            return _apply(Scale, directions, model.scale, model.scale, tape, whose)

        def follow(steps: Tensor, lengths: Tensor) -> Tensor:
            assert model.lstm is not None
            return lstm(model.lstm, steps, lengths, tape)

        model.encoder.forward = packed
        model.scaled = scaled  # type: ignore[method-assign]
        model.follow = follow  # type: ignore[method-assign]

    def detach(self) -> None:
        """Give the model its own forward back."""
        for module in self.model.modules():
            module.__dict__.pop("forward", None)
            module.__dict__.pop("placed", None)
        for name in ("scaled", "follow"):
            self.model.__dict__.pop(name, None)

    def accumulate(self, patients: Patients, loss_of: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Add the clipped gradients of these patients to every parameter's `.grad`; returns their norms,
        (P,).

        Args:
            loss_of: logits (B, K), labels (B, K) -> one loss a sequence, (B,). A patient's loss is the mean
            of its sequences'.
        """
        batch, owner, device = patients.batch, patients.owner, patients.batch.frames.device
        of_frames = owner.repeat_interleave(batch.lengths)
        self._order, frames = packing(of_frames, patients.count, device)
        self._unpacked = Rows(of_frames, patients.count, device)
        steps = Rows(owner.repeat_interleave(batch.frames.shape[1]), patients.count, device)
        sequences = Rows(owner, patients.count, device)
        self._tape.start(frames, steps, sequences)
        losses = loss_of(self.model(batch.frames, batch.gaps, batch.lengths), batch.labels)
        (losses / sequences.counts[sequences.owner]).sum().backward()  # type: ignore[no-untyped-call]
        self._tape.require_each_once(self._names)
        norms = self._tape.norms()
        self._tape.finish((self.clip / (norms + STABILITY)).clamp(max=1.0))
        return norms


def _apply(function: Any, *args: Any) -> Tensor:
    result: Tensor = function.apply(*args)
    return result


def _require_unshared(model: nn.Module) -> None:
    seen: dict[int, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if id(parameter) in seen:
            raise ConfigError(
                f"{name} and {seen[id(parameter)]} are one parameter: a private plan cannot use a parameter "
                "twice"
            )
        seen[id(parameter)] = name
