"""Low-rank adapters (Hu et al., 2021, "LoRA: Low-Rank Adaptation of Large Language Models"): beside each
layer of an encoder, whose own weights stay, a narrow path of two layers that trains.

A layer W becomes W + B A, with A down to `rank` features and B up from them. B starts at zero, so that the
model starts as it was; there is no further scale (the paper's α is the rank). A convolution's A has its
kernel, stride and padding, and its B is 1 x 1. Layers with groups (a depthwise convolution has few weights),
norms and positions stay as they are.

The layer keeps its class's names for its own weights, so that a pretrained file and a model without adapters
fit by name. Both layers of the path are plain ones, of which private training has each patient's gradient.
"""

from torch import Tensor, nn


class AdaptedConv2d(nn.Conv2d):
    """nn.Conv2d and the path beside it."""

    def __init__(self, layer: nn.Conv2d, rank: int) -> None:
        inputs, outputs, sides = layer.in_channels, layer.out_channels, _sides(layer)
        super().__init__(inputs, outputs, *sides)
        self.weight, self.bias = layer.weight, layer.bias
        self.down = nn.Conv2d(inputs, rank, *sides, bias=False)
        self.up = nn.Conv2d(rank, outputs, 1, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, input: Tensor) -> Tensor:
        path: Tensor = self.up(self.down(input))
        return super().forward(input) + path


class AdaptedLinear(nn.Linear):
    """nn.Linear and the path beside it."""

    def __init__(self, layer: nn.Linear, rank: int) -> None:
        super().__init__(layer.in_features, layer.out_features)
        self.weight, self.bias = layer.weight, layer.bias
        self.down = nn.Linear(layer.in_features, rank, bias=False)
        self.up = nn.Linear(rank, layer.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, input: Tensor) -> Tensor:
        path: Tensor = self.up(self.down(input))
        return super().forward(input) + path


def _sides(layer: nn.Conv2d) -> tuple[int, int, int, int]:
    """Kernel, stride, padding and dilation of a square convolution, as all of our encoders' are."""
    assert not isinstance(layer.padding, str)
    found = layer.kernel_size, layer.stride, layer.padding, layer.dilation
    assert all(height == width for height, width in found)
    kernel, stride, padding, dilation = (sides[0] for sides in found)
    return kernel, stride, padding, dilation


def adapt(encoder: nn.Module, rank: int, but: tuple[str, ...]) -> None:
    """Freeze the encoder in place and give its layers adapters, but for what begins with one of `but`."""
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad = name.startswith(but)
    for name, module in list(encoder.named_modules()):
        if f"{name}.".startswith(but):
            continue
        if type(module) is nn.Conv2d and module.groups == 1:
            encoder.set_submodule(name, AdaptedConv2d(module, rank))
        elif type(module) is nn.Linear:
            encoder.set_submodule(name, AdaptedLinear(module, rank))


def adapters_of(model: nn.Module) -> frozenset[str]:
    """Names of the parameters of a model's adapters."""
    return frozenset(
        f"{at}.{part}.weight"
        for at, module in model.named_modules()
        if isinstance(module, (AdaptedConv2d, AdaptedLinear))
        for part in ("down", "up")
    )
