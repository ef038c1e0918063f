"""A trained model as ONNX, checked against PyTorch."""

import warnings
from pathlib import Path

import numpy as np
import torch

from common.errors import RunError
from common.models import CNNLSTM
from common.models.whole import WholeSequences
from common.plan import Plan

OPSET = 17
TOLERANCE = 1e-5
"""Largest difference of a logit between ONNX and PyTorch, relative to 1 or to the logit if that is larger."""


def export_onnx(model: CNNLSTM, plan: Plan, path: Path) -> None:
    """The model for sequences of any length, checked against PyTorch in onnxruntime.

    Inputs: frames (B, T, size, size) float32 in [0, 1], gaps (B, T) float32 days or millimetres, the first 0.
    Outputs: logits (B, K), weights of the frames (B, T).

    Raises:
        RunError: a logit differs by more than TOLERANCE.
    """
    model.eval()
    side = plan.input.size
    frames, gaps = _example(2, max(2, plan.input.min_frames), side)
    some = {0: "batch", 1: "time"}
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # that a newer exporter exists; it does not take a length that varies through an LSTM
        torch.onnx.export(
            WholeSequences(model, side), (frames, gaps), str(path), 
            input_names=["frames", "gaps"], output_names=["logits", "weights"],
            dynamic_axes={"frames": some, "gaps": some, "logits": {0: "batch"}, "weights": some},
            opset_version=OPSET, dynamo=False,
        )  # fmt: skip
    worst = difference_to_onnx(model, plan, path)
    if worst > TOLERANCE:
        raise RunError(
            f"{path}: the exported model differs from the trained one by {worst:.1e}, at most {TOLERANCE:g} "
            "is allowed"
        )


def difference_to_onnx(model: CNNLSTM, plan: Plan, path: Path) -> float:
    """The largest difference of a logit over several lengths and batches."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    worst = 0.0
    for n, t in ((1, 1), (1, plan.input.max_frames), (3, max(1, plan.input.max_frames // 2))):
        frames, gaps = _example(n, t, plan.input.size)
        with torch.no_grad():
            expected = model(frames, gaps, torch.full((n,), t)).numpy()
        logits = session.run(["logits"], {"frames": frames.numpy(), "gaps": gaps.numpy()})[0]
        worst = max(worst, float((np.abs(logits - expected) / np.maximum(1.0, np.abs(expected))).max()))
    return worst


def _example(n: int, t: int, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(n * 1000 + t)
    gaps = 10 * torch.rand(n, t, generator=generator)
    gaps[:, 0] = 0.0
    return torch.rand(n, t, side, side, generator=generator), gaps
