"""The shared model: plain nn.Modules, tensors in, tensors out."""

from common.models.cnn_lstm import CNNLSTM, build_model

__all__ = ["CNNLSTM", "build_model"]
