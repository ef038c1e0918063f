"""Layers whose backward pass notes each patient's gradient on a tape instead of computing the batch's.

Every function gives the ordinary output and the ordinary gradient of its input. Rows of an input belong to
patients (rows.py). N rows, P patients, R rows of a patient, C channels, L pixels of a feature map, I and O
features.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional as F

from client.training.private.rows import PackedRows, Rows
from client.training.private.tape import Tape, accumulate
from common.models.vit import VisionTransformer

aten = torch.ops.aten
FEW_TAPS = 32
"""Up to so many inputs of an output pixel, explicit patches and one matrix product beat the grouped
convolution."""


class Conv(Function):
    """nn.Conv2d on the encoder's rows, which are packed."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, layer: nn.Conv2d, tape: Tape
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.layer, ctx.tape = layer, tape
        return F.conv2d(x, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        layer, rows = ctx.layer, ctx.tape.frames
        g, x = g.contiguous(), x.contiguous()
        gx = _conv_backward(g, x, weight, layer, layer.groups, [ctx.needs_input_grad[0], False, False])[0]
        if weight.requires_grad:
            spots = rows.most * g.shape[2] * g.shape[3]
            if layer.groups == 1 and 2 * spots**2 < weight.numel():
                _note_conv_by_gram(ctx.tape, rows, x, g, layer)
            else:
                ctx.tape.add_gradients(
                    list(zip((layer.weight, layer.bias), _conv_gradients(rows, x, g, layer), strict=True))
                )
        return gx, None, None, None, None


def _conv_backward(
    g: Tensor, x: Tensor, weight: Tensor, layer: nn.Conv2d, groups: int, wanted: list[bool]
) -> Any:
    outputs = [g.shape[1]] if wanted[2] else None
    padding = layer.padding if isinstance(layer.padding, tuple) else (0, 0)
    return aten.convolution_backward(
        g,
        x,
        weight,
        outputs,
        list(layer.stride),
        list(padding),
        list(layer.dilation),
        False,
        [0, 0],
        groups,
        wanted,
    )


def _conv_gradients(rows: PackedRows, x: Tensor, g: Tensor, layer: nn.Conv2d) -> tuple[Tensor, Tensor | None]:
    """(P, numel) gradients of the weight and (P, O) of the bias."""
    weights: Tensor | None = None
    biases: Tensor | None = None
    for first, steps, n in rows.runs:
        rows_x, rows_g = x[first : first + steps * n], g[first : first + steps * n]
        gw, gb = _run_gradients(rows_x, rows_g, steps, n, layer)
        if weights is None:
            weights, biases = gw, gb
        else:
            weights[:n] += gw
            if biases is not None and gb is not None:
                biases[:n] += gb
    assert weights is not None
    return weights, biases


def _run_gradients(
    x: Tensor, g: Tensor, steps: int, n: int, layer: nn.Conv2d
) -> tuple[Tensor, Tensor | None]:
    """Gradients of `n` patients with `steps` rows each: one convolution with a group a patient, on views."""
    inputs, outputs = x.shape[1], g.shape[1]
    if layer.groups == 1 and layer.weight[0].numel() <= FEW_TAPS:
        products = torch.bmm(
            _patches(x, layer), g.flatten(2).transpose(1, 2)
        )  # this way round is the faster one
        gw = products.view(steps, n, -1, outputs).sum(0).transpose(1, 2).reshape(n, -1)
        return gw, g.view(steps, n, outputs, -1).sum((0, 3)) if layer.bias is not None else None
    weight = layer.weight.new_empty(
        n * outputs, *layer.weight.shape[1:]
    )  # only its shape matters: no gradient of x is asked for
    _, gw, gb = _conv_backward(
        g.view(steps, n * outputs, *g.shape[2:]), x.view(steps, n * inputs, *x.shape[2:]), weight, layer,
        layer.groups * n,
        [False, True, layer.bias is not None],
    )  # fmt: skip
    return gw.view(n, -1), gb.view(n, outputs) if layer.bias is not None else None


def _patches(x: Tensor, layer: nn.Conv2d) -> Tensor:
    """(N, C, H, W) -> (N, taps, L): what each output pixel sees. As F.unfold, for large maps in half the
    time."""
    assert not isinstance(layer.padding, str)
    (pad_y, pad_x), (height, width) = layer.padding, layer.kernel_size
    x = F.pad(x, (pad_x, pad_x, pad_y, pad_y))
    (step_y, step_x), (dilate_y, dilate_x) = layer.stride, layer.dilation
    rows = (x.shape[2] - dilate_y * (height - 1) - 1) // step_y + 1
    columns = (x.shape[3] - dilate_x * (width - 1) - 1) // step_x + 1
    n, c, y, one = x.stride()
    seen = x.as_strided(
        (*x.shape[:2], height, width, rows, columns),
        (n, c, dilate_y * y, dilate_x * one, step_y * y, step_x * one),
    )
    return seen.reshape(x.shape[0], -1, rows * columns)


LEFT = 1e-4
"""Share of a square below which float32 does not say what is left where products cancel out."""


def squared_norm(gram: Tensor, inner: Tensor) -> Tensor:
    """(P,) ||sum_r g_r x_r^T||^2 of (P, R, R) products <g_r, g_s> and <x_r, x_s>.

    At least LEFT of (sum_r ||g_r|| ||x_r||)^2: weights can be made so that a patient's rows cancel out but
    for what rounding hides, and a norm that is too small would let more than the clip through.
    """
    sizes = (
        torch.stack([m.diagonal(dim1=1, dim2=2) for m in (gram, inner)]).clamp_min(0).sqrt().prod(0).sum(1)
    )
    return torch.maximum((gram * inner).sum((1, 2)), LEFT * sizes.square())


def _note_conv_by_gram(tape: Tape, rows: Rows, x: Tensor, g: Tensor, layer: nn.Conv2d) -> None:
    """Where a layer has many weights and few pixels: ||sum_r g_r u_r^T||^2 = sum_rs <g_r, g_s> <u_r, u_s>,
    over spots r, s."""
    patches = F.unfold(x, layer.kernel_size, layer.dilation, layer.padding, layer.stride)  # type: ignore[arg-type]
    u = rows.gather(patches.transpose(1, 2)).flatten(1, 2)  # (P, R L, taps)
    v = rows.gather(g.flatten(2).transpose(1, 2)).flatten(1, 2)  # (P, R L, O)
    inner = torch.bmm(u, u.transpose(1, 2))
    if layer.bias is not None and layer.bias.requires_grad:
        inner += 1.0
    squares = squared_norm(torch.bmm(v, v.transpose(1, 2)), inner)

    def finish(factors: Tensor) -> None:
        scaled = g * rows.spread(factors).view(-1, 1, 1, 1)
        _, gw, gb = _conv_backward(scaled, x, layer.weight, layer, 1, [False, True, layer.bias is not None])
        accumulate(layer.weight, gw)
        accumulate(layer.bias, gb)

    parameters = [p for p in (layer.weight, layer.bias) if p is not None and p.requires_grad]
    tape.add(squares, parameters, finish)


class GroupNorm(Function):
    """nn.GroupNorm. Seen as one sample of N x C channels, torch's own kernel gives each row's gradients at no
    extra cost."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, layer: nn.GroupNorm, tape: Tape, rows: Rows
    ) -> Tensor:
        x = x.contiguous()
        n, c = x.shape[:2]
        y, mean, rstd = aten.native_group_norm(
            x, weight, bias, n, c, x[0, 0].numel(), layer.num_groups, layer.eps
        )
        ctx.save_for_backward(x, weight, mean, rstd)
        ctx.layer, ctx.tape, ctx.rows = layer, tape, rows
        result: Tensor = y
        return result

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, weight, mean, rstd = ctx.saved_tensors
        layer, (n, c), pixels = ctx.layer, x.shape[:2], x[0, 0].numel()
        gx, gw, gb = aten.native_group_norm_backward(
            g.contiguous().view(1, n * c, pixels), x.view(1, n * c, pixels), mean.view(1, -1), rstd.view(1,
            -1),
            weight.repeat(n), 1, n * c, pixels, n * layer.num_groups, [True, True, True],
        )  # fmt: skip
        sums = [ctx.rows.sum(gw.view(n, c)), ctx.rows.sum(gb.view(n, c))]
        ctx.tape.add_gradients(list(zip((layer.weight, layer.bias), sums, strict=True)))
        return gx.view_as(x), None, None, None, None, None


class LayerNorm(Function):
    """nn.LayerNorm over the features of (N, L, D): L tokens a row."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, layer: nn.LayerNorm, tape: Tape, rows: Rows
    ) -> Tensor:
        y, mean, rstd = aten.native_layer_norm(x, layer.normalized_shape, weight, bias, layer.eps)
        ctx.save_for_backward(x, weight, bias, mean, rstd)
        ctx.layer, ctx.tape, ctx.rows = layer, tape, rows
        result: Tensor = y
        return result

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, weight, bias, mean, rstd = ctx.saved_tensors
        layer, wanted = ctx.layer, [True, False, False]
        gx, _, _ = aten.native_layer_norm_backward(
            g, x, layer.normalized_shape, mean, rstd, weight, bias, wanted
        )
        sums = [ctx.rows.sum((g * (x - mean) * rstd).sum(1)), ctx.rows.sum(g.sum(1))]
        ctx.tape.add_gradients(list(zip((layer.weight, layer.bias), sums, strict=True)))
        return gx, None, None, None, None, None


class Placed(Function):
    """VisionTransformer.placed on the encoder's rows: the class token and the positions are added to each."""

    @staticmethod
    def forward(
        ctx: Any, patches: Tensor, moved: Tensor, cls_token: Tensor, pos_embed: Tensor,
        layer: VisionTransformer, tape: Tape,
    ) -> Tensor:  # fmt: skip
        ctx.save_for_backward(moved)
        ctx.layer, ctx.tape = layer, tape
        return VisionTransformer.placed(layer, patches, moved)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        (moved,) = ctx.saved_tensors
        sums = ctx.tape.frames.sum(g)
        of_first = sums[:, :1]
        of_places = torch.cat([of_first, moved.t() @ sums[:, 1:]], 1)
        ctx.tape.add_gradients([(ctx.layer.cls_token, of_first), (ctx.layer.pos_embed, of_places)])
        return g[:, 1:], None, None, None, None, None


class Linear(Function):
    """nn.Linear on (N, I) rows, or on (N, L, I) with L tokens a row."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, layer: nn.Linear, tape: Tape, rows: Rows
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.layer, ctx.tape, ctx.rows = layer, tape, rows
        return F.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        layer = ctx.layer
        if weight.requires_grad:
            note_product(
                ctx.tape, ctx.rows, g, [(x, layer.weight)], [layer.bias] if layer.bias is not None else []
            )
        return g @ weight if ctx.needs_input_grad[0] else None, None, None, None, None, None


def note_product(
    tape: Tape, rows: Rows, g: Tensor, inputs: list[tuple[Tensor, nn.Parameter]], biases: list[nn.Parameter]
) -> None:
    """Note weights whose gradient is sum over rows of g_r x_r^T, for one or several inputs x, and biases with
    sum of g_r; with L tokens a row, (N, L, O) and (N, L, I), over all of them.

    The norm comes from Gram matrices, (R, R) or (R L, R L) a patient, without the gradients themselves.
    """
    v = rows.gather(g).flatten(1, -2)
    gram = torch.bmm(v, v.transpose(1, 2))
    inner = torch.full_like(gram, float(len([b for b in biases if b.requires_grad])))
    for x, parameter in inputs:
        if parameter.requires_grad:
            u = rows.gather(x).flatten(1, -2)
            inner += torch.bmm(u, u.transpose(1, 2))

    def finish(factors: Tensor) -> None:
        scaled = (g * rows.spread(factors).view(-1, *(1 for _ in g.shape[1:]))).flatten(0, -2)
        for x, parameter in inputs:
            accumulate(parameter, scaled.t() @ x.flatten(0, -2))
        for bias in biases:
            accumulate(bias, scaled.sum(0))

    parameters = [p for _, p in inputs if p.requires_grad] + [b for b in biases if b.requires_grad]
    tape.add(squared_norm(gram, inner), parameters, finish)


class Scale(Function):
    """Rows times one learned number."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: nn.Parameter, layer_scale: nn.Parameter, tape: Tape, rows: Rows
    ) -> Tensor:
        ctx.save_for_backward(x, scale)
        ctx.parameter, ctx.tape, ctx.rows = layer_scale, tape, rows
        return x * scale

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, scale = ctx.saved_tensors
        ctx.tape.add_gradients([(ctx.parameter, ctx.rows.sum((g * x).sum(1, keepdim=True)))])
        return g * scale, None, None, None, None
