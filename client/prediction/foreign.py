"""A model that others made, run by onnxruntime under its contract (common/foreign.py)."""

from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from common.errors import ConfigError
from common.foreign import MODEL, Contract


class ForeignModel(nn.Module):
    """Called as ours are; on the CPU, whatever the device."""

    def __init__(self, folder: Path, contract: Contract) -> None:
        """Raises ConfigError if the file is not readable as ONNX, or takes something else than the contract
        says."""
        super().__init__()
        self.contract = contract
        try:
            self._session = onnxruntime.InferenceSession(
                str(folder / MODEL), providers=["CPUExecutionProvider"]
            )
        except Exception as e:  # onnxruntime's errors have no common kind
            raise ConfigError(f"{folder / MODEL}: not readable as ONNX ({type(e).__name__})") from None
        inputs = self._session.get_inputs()
        rank = len(inputs[0].shape)
        single = contract.input.max_frames == 1
        if len(inputs) > 2 or rank not in ((4,) if single else (4, 5)):
            found = "; ".join(f"{one.name} {one.shape}" for one in inputs)
            wanted = "(B, C, size, size)" if single else "(B, T, size, size) or (B, T, C, size, size)"
            raise ConfigError(
                f"{folder / MODEL}: takes {found[:200]}; expected frames {wanted}, and perhaps gaps (B, T)"
            )
        self._has_channels = single or rank == 5
        self._names = [one.name for one in inputs]

    def forward(self, frames: Tensor, gaps: Tensor, lengths: Tensor) -> Tensor:
        """(B, K) logits; frames (B, T, H, W) in [0, 1], gaps (B, T), lengths (B,)."""
        pixels, days = frames.float().cpu().numpy(), gaps.float().cpu().numpy()
        if self.contract.input.max_frames == 1:
            return self._run(pixels[:, 0], days[:, :1]).to(frames.device)
        each = [  # one at a time: a model of others may not know of padding
            self._run(pixels[i : i + 1, :n], days[i : i + 1, :n]) for i, n in enumerate(lengths.tolist())
        ]
        return torch.cat(each).to(frames.device)

    def _run(self, pixels: NDArray[np.float32], gaps: NDArray[np.float32]) -> Tensor:
        contract = self.contract
        scaled = (pixels - np.float32(contract.mean)) / np.float32(contract.std)
        given = scaled
        if self._has_channels:
            axis = scaled.ndim - 2
            given = np.repeat(np.expand_dims(scaled, axis), contract.channels, axis=axis)
        feed = dict(zip(self._names, (np.ascontiguousarray(given), gaps), strict=False))
        try:
            out = np.asarray(self._session.run(None, feed)[0], dtype=np.float64)
        except Exception as e:  # as above
            raise ConfigError(
                f"{contract.name}: the model does not run on its contract's input ({type(e).__name__})"
            ) from None
        if out.shape != (len(pixels), len(contract.findings)) or not np.isfinite(out).all():
            raise ConfigError(
                f"{contract.name}: gave numbers of shape {out.shape}, or not finite ones; expected a column "
                f"for each of {', '.join(contract.findings)}"
            )
        if contract.output == "probabilities":
            if out.min() < 0.0 or out.max() > 1.0:
                raise ConfigError(
                    f"{contract.name}: gave {out.min():.3g} to {out.max():.3g}, expected probabilities"
                )
            out = out.clip(1e-7, 1 - 1e-7)
            out = np.log(out) - np.log1p(-out)
        return torch.from_numpy(out.astype(np.float32))
