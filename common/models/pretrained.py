"""A run's first weights from a file that somebody has, checked by hash: a whole model of ours, which a run
goes on with or only judges; or an encoder's, converted from BatchNorm to GroupNorm.

The file is safetensors (which cannot carry code), with our names or torchvision's. Only who starts a run
needs
it: sites get the weights with the first round. docs/model.md tells how to make one.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from common.errors import ConfigError
from common.handover import MODEL
from common.models.adapters import adapters_of
from common.models.cnn_lstm import CNNLSTM, build_model
from common.models.encoders import ENCODERS
from common.plan import Plan
from common.wire import Schema, Weights, get_weights


def starting_model(plan: Plan, file: Path | None) -> CNNLSTM:
    """The plan's model before the first round: by its seed alone, or with the weights from `file`, a file or
    the folder of a model that was handed over.

    Raises:
        ConfigError: the plan names a file and none is given, or the other way round; it is another file; or
        its tensors do not fit.
    """
    model, wanted = build_model(plan), plan.model.pretrained
    file = file / MODEL if file is not None and file.is_dir() else file
    if wanted is None and file is None:
        return model
    if wanted is None or file is None:
        given = (
            f"the file {file}, and the plan names none"
            if file
            else f"no file, and the plan starts from {wanted and wanted[:12]}"
        )
        raise ConfigError(
            f"model.pretrained: found {given}; give both (pretrained: the file's SHA-256), or neither"
        )
    tensors = read_tensors(file, wanted)
    if tensors.keys() in (model.state_dict().keys(), model.state_dict().keys() - adapters_of(model)):
        load_whole(model, tensors, str(file))
        return model
    load_encoder(model.encoder, plan.model.encoder, tensors, str(file))
    return model


def starting_weights(plan: Plan, file: Path | None) -> Weights:
    """The tensors of `starting_model`, and zeros for what the plan's method exchanges beside them. Raises
    ConfigError as it does."""
    model = starting_model(plan, file)
    shapes = Schema.exchanged(plan, model).shapes
    return {name: np.zeros(shape, np.float32) for name, shape in shapes.items()} | get_weights(model)


def read_tensors(file: Path, sha256: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file with this hash. Raises ConfigError."""
    try:
        data = file.read_bytes()
    except OSError as e:
        raise ConfigError(f"{file}: cannot be read: {e.strerror}") from None
    tensor = hashlib.sha256(data).hexdigest()
    if tensor != sha256:
        raise ConfigError(f"{file}: has the SHA-256 {tensor[:12]}…, the plan names {sha256[:12]}…")
    try:
        return load(data)
    except (SafetensorError, ValueError, KeyError) as e:
        raise ConfigError(
            f"{file}: not a safetensors file ({type(e).__name__}); docs/model.md tells how to make one"
        ) from None


def load_whole(model: CNNLSTM, tensors: Mapping[str, Tensor], where: str) -> None:
    """Copy a trained model, with adapters or without: the plan's then start beside it. Raises ConfigError for
    another shape, or a value that is not finite; names the tensor."""
    state = model.state_dict()
    for name in tensors:
        expected = state[name]
        if tensors[name].shape != expected.shape or not torch.isfinite(tensors[name]).all():
            raise ConfigError(
                f"{where}: tensor {name}: found shape {tuple(tensors[name].shape)} or values that are not "
                f"finite, expected {tuple(expected.shape)}; is it a model of this plan?"
            )
    model.load_state_dict(state | dict(tensors))


@torch.no_grad()
def load_encoder(encoder: nn.Module, name: str, tensors: Mapping[str, Tensor], where: str) -> None:
    """Copy pretrained tensors into an encoder of ours; its projection to the embedding, and
    adapters, stay as they are.

    Raises:
        ConfigError: a tensor is missing, has another shape or comes to values that are not finite, or is of a
            norm that is not whole; names it.
    """
    kind = ENCODERS[name]
    adapters = adapters_of(encoder)
    for key, parameter in encoder.named_parameters():
        if key.startswith(kind.stages[-1]) or key in adapters:
            continue
        if key not in tensors:
            raise ConfigError(
                f"{where}: tensor {key} is missing; expected the weights of {name} (docs/model.md)"
            )
        tensor = tensors[key].float()
        if key == kind.first and tensor.ndim == 4:
            tensor = first_convolution(tensor, parameter.shape[1])
        if tensor.shape != parameter.shape:
            raise ConfigError(
                f"{where}: tensor {key}: found shape {tuple(tensor.shape)}, expected {tuple(parameter.shape)}"
            )
        parameter.copy_(tensor)
    for at, module in encoder.named_modules():
        if isinstance(module, nn.GroupNorm) and (statistics := _statistics(tensors, at, module, where)):
            convert_norm(module, *statistics)
    for key, parameter in encoder.named_parameters():
        if not parameter.isfinite().all():
            raise ConfigError(f"{where}: tensor {key}: found values that are not finite, or come to such")


def _statistics(
    tensors: Mapping[str, Tensor], at: str, norm: nn.GroupNorm, where: str
) -> tuple[Tensor, Tensor] | None:
    """Mean and variance of the BatchNorm `at`; None of a norm that has neither. Raises ConfigError."""
    found = [tensors[name].float() for part in ("mean", "var") if (name := f"{at}.running_{part}") in tensors]
    if not found:
        return None
    whole = len(found) == 2 and all(t.shape == norm.weight.shape for t in found)
    if not whole or bool((found[1] < 0).any()):
        raise ConfigError(
            f"{where}: tensors {at}.running_mean and {at}.running_var: expected both, {len(norm.weight)} "
            "numbers each, and no variance below 0"
        )
    return found[0], found[1]


def first_convolution(weight: Tensor, channels: int) -> Tensor:
    """(O, 3, H, W) for colours -> (O, channels, H, W): grey is the same in all three, so their weights add
    up.

    They go to the frame itself, channel 0; its context begins at zero, so that the encoder starts as what it
    was.
    """
    ours = weight.new_zeros(weight.shape[0], channels, *weight.shape[2:])
    ours[:, 0] = weight.sum(1)
    return ours


def convert_norm(norm: nn.GroupNorm, mean: Tensor, variance: Tensor) -> None:
    """BatchNorm's scale and shift, already in `norm`, changed so that GroupNorm gives the same on the average
    image.

    BatchNorm gives γ (x - μ) / σ + β with each channel's μ and σ. GroupNorm gives γ' (x - m) / s + β' with
    the mean and deviation of a group of channels: m = mean(μ), s² = mean(σ² + μ²) - m² where an image is like
    the average one. Equal for every x if γ' = γ s / σ and β' = β + γ (m - μ) / σ.
    """
    group_mean = mean.view(norm.num_groups, -1).mean(1)
    power = (variance + mean.square()).view(norm.num_groups, -1).mean(1)
    per_group = mean.numel() // norm.num_groups
    m = group_mean.repeat_interleave(per_group)
    s = (power - group_mean.square()).clamp_min(0).repeat_interleave(per_group).add(norm.eps).sqrt()
    sigma = (variance + norm.eps).sqrt()
    gamma = norm.weight.clone()
    norm.weight.copy_(gamma * s / sigma)
    norm.bias.add_(gamma * (m - mean) / sigma)
