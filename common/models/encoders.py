"""Encoders: one frame (with its context as channels) -> one embedding. One entry an encoder, in
`ENCODERS`."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from common.errors import ConfigError
from common.models.adapters import adapt
from common.models.vit import DEPTH, VisionTransformer
from common.plan import Model

GRID = 3
"""`cnn3` keeps a 3 x 3 map of where its features lie: averaged over the whole frame, a small opacity would be
lost."""


class CNN3(nn.Module):
    """Three hidden convolutional layers (3x3, stride 2, GroupNorm, ReLU), averaged over a 3 x 3 grid, then a
    linear layer.

    GroupNorm, not BatchNorm: nothing in the model depends on who else is in the batch, so that averaging the
    weights of sites with different scanners is sound, and so is per-patient clipping. Weights start as He et
    al. (2015).

    Shapes: (N, channels, H, W) float -> (N, embedding) float.
    """

    def __init__(self, channels: int, width: int, embedding: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for out in (width, 2 * width, 4 * width):
            layers += [
                nn.Conv2d(channels, out, 3, stride=2, padding=1),
                nn.GroupNorm(_groups(out), out),
                nn.ReLU(),
            ]
            channels = out
        self.features = nn.Sequential(*layers, GridPool(GRID), nn.Flatten())
        self.project = nn.Linear(channels * GRID * GRID, embedding)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # neither is built without a bias

    def forward(self, x: Tensor) -> Tensor:
        embedding: Tensor = self.project(self.features(x))
        return embedding


class GridPool(nn.AdaptiveAvgPool2d):
    """Means over a grid of places. On a GPU by two matrix products: torch's own backward pass adds up in
    whatever order its threads come, and two runs would differ."""

    def forward(self, input: Tensor) -> Tensor:
        if not input.is_cuda:
            return super().forward(input)
        assert isinstance(self.output_size, int)  # ours are square
        rows, columns = (
            averaging(side, self.output_size, input.device, input.dtype) for side in input.shape[2:]
        )
        return rows @ input @ columns.T


@lru_cache(maxsize=16)
def averaging(
    size: int, grid: int, device: torch.device | None = None, dtype: torch.dtype = torch.float32
) -> Tensor:
    """(grid, size) that takes the means of nn.AdaptiveAvgPool2d along one side."""
    with torch.inference_mode(False):  # whoever asks first may judge, and who asks next train
        weights = torch.zeros(grid, size)
        for i in range(grid):
            start, end = i * size // grid, -(-(i + 1) * size // grid)
            weights[i, start:end] = 1.0 / (end - start)
        return weights.to(device, dtype)


def _groups(channels: int) -> int:
    """Groups of at least four channels, eight at most: with one channel a group, the norm would erase the
    feature."""
    return max(g for g in range(1, 9) if channels % g == 0 and channels // g >= 4)


def cnn3(model: Model, channels: int) -> nn.Module:
    """The plan's `CNN3`."""
    return CNN3(channels, model.width, model.embedding)


def group_norm(channels: int) -> nn.GroupNorm:
    """In place of BatchNorm: see `CNN3`."""
    return nn.GroupNorm(_groups(channels), channels)


def resnet18(model: Model, channels: int) -> nn.Module:
    """He et al., 2016, "Deep Residual Learning for Image Recognition": torchvision's, with GroupNorm."""
    from torchvision.models import resnet18 as build  # takes a second: only where it is needed

    net = build(norm_layer=group_norm, num_classes=model.embedding)
    net.conv1 = nn.Conv2d(channels, net.conv1.out_channels, 7, stride=2, padding=3, bias=False)
    nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out")
    result: nn.Module = net
    return result


def efficientnet_b0(model: Model, channels: int) -> nn.Module:
    """Tan and Le, 2019, "EfficientNet": torchvision's, with GroupNorm and without dropout or stochastic
    depth.

    Random layers would make a round depend on more than its seed, and a patient's gradient on the draw.
    """
    from torchvision.models import efficientnet_b0 as build

    net = build(norm_layer=group_norm, num_classes=model.embedding, dropout=0.0, stochastic_depth_prob=0.0)
    first = net.features[0][0]
    net.features[0][0] = nn.Conv2d(channels, first.out_channels, 3, stride=2, padding=1, bias=False)
    nn.init.kaiming_normal_(net.features[0][0].weight, mode="fan_out")
    result: nn.Module = net
    return result


def densenet121(model: Model, channels: int) -> nn.Module:
    """Huang et al., 2017, "Densely Connected Convolutional Networks": torchvision's, with GroupNorm. It has
    no dropout. Published weights of chest X-rays are often of this shape and have these names."""
    from torchvision.models import densenet121 as build

    net = build(num_classes=model.embedding)
    norms = [(at, norm) for at, norm in net.named_modules() if isinstance(norm, nn.BatchNorm2d)]
    for at, norm in norms:
        net.set_submodule(at, group_norm(norm.num_features))
    net.features.conv0 = nn.Conv2d(
        channels, net.features.conv0.out_channels, 7, stride=2, padding=3, bias=False
    )
    nn.init.kaiming_normal_(net.features.conv0.weight)
    result: nn.Module = net
    return result


def vit_tiny(model: Model, channels: int) -> nn.Module:
    """The plan's `VisionTransformer`."""
    return VisionTransformer(channels, model.patch, model.embedding)


@dataclass(frozen=True)
class Encoder:
    """How to build an encoder, and what its parameters are called."""

    build: Callable[[Model, int], nn.Module]
    stages: tuple[tuple[str, ...], ...]
    """Beginnings of its parameters' names, stage by stage from the input on; the last is the projection to
    the embedding."""
    first: str
    """The weight of its first convolution, which sees the frame and its context."""
    map: str
    """The module whose output is the last map that still has places, (N, features, h, w): what explanations
    read (client/prediction/explain/where.py)."""


ENCODERS = {
    "cnn3": Encoder(
        cnn3,
        (
            ("features.0.", "features.1."),
            ("features.3.", "features.4."),
            ("features.6.", "features.7."),
            ("project.",),
        ),
        "features.0.weight",
        "features.6",
    ),
    "resnet18": Encoder(
        resnet18,
        (("conv1.", "bn1."), ("layer1.",), ("layer2.",), ("layer3.",), ("layer4.",), ("fc.",)),
        "conv1.weight",
        "layer4.1.conv2",
    ),
    "efficientnet_b0": Encoder(
        efficientnet_b0,
        (*((f"features.{k}.",) for k in range(9)), ("classifier.",)),
        "features.0.0.weight",
        "features.8.0",
    ),
    "densenet121": Encoder(
        densenet121,
        (
            ("features.conv0.", "features.norm0."),
            *((f"features.denseblock{k}.", f"features.transition{k}.") for k in (1, 2, 3)),
            ("features.denseblock4.", "features.norm5."),
            ("classifier.",),
        ),
        "features.conv0.weight",
        "features.denseblock4",  # all that its layers made: the last convolution has 32 features of 1,024
    ),
    "vit_tiny": Encoder(
        vit_tiny,
        (
            ("cls_token", "pos_embed", "patch_embed."),
            *((f"blocks.{k}.",) for k in range(DEPTH - 1)),
            (f"blocks.{DEPTH - 1}.", "norm."),
            ("head.",),
        ),
        "patch_embed.proj.weight",
        "map",
    ),
}


def build_encoder(model: Model, channels: int) -> nn.Module:
    """The plan's encoder for frames of `channels` channels, which maps (N, channels, H, W) to (N,
    model.embedding).

    The plan's frozen stages do not ask for a gradient; with `model.adapters` nothing of the encoder does but
    these and the projection.

    Raises:
        ConfigError: the plan freezes more stages than the encoder has.
    """
    kind = ENCODERS[model.encoder]
    if model.frozen_stages > len(kind.stages):
        raise ConfigError(
            f"model.frozen_stages: found {model.frozen_stages}, {model.encoder} has {len(kind.stages)} stages"
        )
    encoder = kind.build(model, channels)
    frozen = tuple(start for stage in kind.stages[: model.frozen_stages] for start in stage)
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad = not name.startswith(frozen) if frozen else True
    if model.adapters:
        adapt(encoder, model.adapters, but=kind.stages[-1])
    return encoder
