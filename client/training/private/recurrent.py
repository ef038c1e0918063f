"""nn.LSTM with a backward pass of our own: torch's fused one gives no access to a patient's gradients.

Same parameters, same outputs. T steps, B sequences, D inputs, H hidden units; gates in torch's order: i, f,
g, o.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from client.training.private.layers import note_product
from client.training.private.tape import Tape


def lstm(layer: nn.LSTM, steps: Tensor, lengths: Tensor, tape: Tape) -> Tensor:
    """(B, T, D) padded -> (B, T, H x directions), all layers and directions."""
    flip = reversal(lengths, steps.shape[1]).to(steps.device, non_blocking=True)
    states = steps
    for k in range(layer.num_layers):
        outputs = []
        for suffix in ("", "_reverse") if layer.bidirectional else ("",):
            names = [f"{kind}_l{k}{suffix}" for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
            parameters = [getattr(layer, name) for name in names]
            x = flipped(states, flip) if suffix else states
            out = Direction.apply(x.transpose(0, 1), *parameters, parameters, tape)
            out = out.transpose(0, 1)
            outputs.append(flipped(out, flip) if suffix else out)
        states = torch.cat(outputs, dim=2) if len(outputs) > 1 else outputs[0]
    return states


def reversal(lengths: Tensor, n_steps: int) -> Tensor:
    """(B, T) index that turns each sequence round within its own length and leaves the padding where it
    is."""
    t = torch.arange(n_steps).unsqueeze(0)
    back = lengths.unsqueeze(1) - 1 - t
    return torch.where(back >= 0, back, t)


def flipped(x: Tensor, flip: Tensor) -> Tensor:
    """(B, T, F) with the time of each sequence turned round."""
    return x.gather(1, flip.unsqueeze(2).expand(-1, -1, x.shape[2]))


class Direction(Function):
    """One layer in one direction: (T, B, D) -> (T, B, H). The projection of the inputs is one product for all
    steps."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        w_ih: Tensor,
        w_hh: Tensor,
        b_ih: Tensor,
        b_hh: Tensor,
        parameters: list[nn.Parameter],
        tape: Tape,
    ) -> Tensor:
        n_steps, n, _ = x.shape
        width = w_hh.shape[1]
        gates = torch.addmm(b_ih + b_hh, x.reshape(n_steps * n, -1), w_ih.t()).view(n_steps, n, 4 * width)
        hidden, cell = x.new_zeros(n_steps + 1, n, width), x.new_zeros(n_steps + 1, n, width)
        squashed = x.new_empty(n_steps, n, width)
        for t in range(n_steps):
            a = gates[t]
            if t > 0:
                a.addmm_(hidden[t], w_hh.t())
            a[:, : 2 * width].sigmoid_()
            a[:, 2 * width : 3 * width].tanh_()
            a[:, 3 * width :].sigmoid_()
            i, f, g, o = a.chunk(4, 1)
            torch.mul(f, cell[t], out=cell[t + 1])
            cell[t + 1].addcmul_(i, g)
            torch.tanh(cell[t + 1], out=squashed[t])
            torch.mul(o, squashed[t], out=hidden[t + 1])
        ctx.save_for_backward(x, w_ih, w_hh, gates, hidden, cell, squashed)
        ctx.parameters, ctx.tape = parameters, tape
        return hidden[1:].clone()

    @staticmethod
    def backward(ctx: Any, go: Tensor) -> Any:
        x, w_ih, w_hh, gates, hidden, cell, squashed = ctx.saved_tensors
        d_gates = _gate_gradients(go, w_hh, gates, cell, squashed)
        gx = (d_gates.flatten(0, 1) @ w_ih).view_as(x)
        p_ih, p_hh, *biases = ctx.parameters
        if p_ih.requires_grad:
            g, inputs, before = (_by_sequence(a) for a in (d_gates, x, hidden[:-1]))
            note_product(ctx.tape, ctx.tape.steps, g, [(inputs, p_ih), (before, p_hh)], biases)
        return gx, None, None, None, None, None, None


def _by_sequence(x: Tensor) -> Tensor:
    """(T, B, F) -> (B T, F), as the tape counts time steps. Turned-round time stays so: a patient's sum does
    not mind."""
    return x.transpose(0, 1).reshape(-1, x.shape[2])


def _gate_gradients(go: Tensor, w_hh: Tensor, gates: Tensor, cell: Tensor, squashed: Tensor) -> Tensor:
    """(T, B, 4H): the loss's gradient in the gates before their nonlinearity, by backpropagation through
    time."""
    n_steps, n, width = go.shape
    i, f, g, o = gates.chunk(4, 2)
    # What does not depend on the recurrence is computed for all steps at once.
    k_o, k_c = squashed * o * (1 - o), o * (1 - squashed * squashed)
    k_ifg = torch.cat([g * i * (1 - i), cell[:-1] * f * (1 - f), i * (1 - g * g)], 2).view(
        n_steps, n, 3, width
    )
    d_gates = torch.empty_like(gates)
    d_hidden, d_cell = go[-1], torch.zeros_like(go[0])
    for t in range(n_steps - 1, -1, -1):
        d = torch.addcmul(d_cell, d_hidden, k_c[t])
        torch.mul(k_ifg[t], d.unsqueeze(1), out=d_gates[t].view(n, 4, width)[:, :3])
        torch.mul(d_hidden, k_o[t], out=d_gates[t, :, 3 * width :])
        if t > 0:
            d_cell = d * f[t]
            d_hidden = torch.addmm(go[t - 1], d_gates[t], w_hh)
    return d_gates
