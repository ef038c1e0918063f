"""Each layer's own gradients of each patient, against autograd over that patient alone."""

import numpy as np
import pytest
import torch

from client.training.private.gradients import PrivateGradients
from common.models import vit
from common.models.cnn_lstm import CNNLSTM
from common.plan import Model
from tests.helpers.private import as_patients, compare, loss_of, make_batch


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["resnet18", "efficientnet_b0", "densenet121", "vit_tiny"])
@pytest.mark.parametrize("chunk", [2, 4])
def test_the_large_encoders_are_exact_too(encoder, chunk):
    torch.manual_seed(0)
    model = CNNLSTM(Model(encoder=encoder, embedding=16, hidden=8, bidirectional=True), 2)
    batch, names = make_batch(6, 4, 3, 32, 2)
    compare(model, batch, names, chunk)


def test_layers_with_many_weights_and_few_pixels_take_the_gram_way():
    """A last layer of 3 x 3 pixels and 128 x 256 x 9 weights."""
    model = CNNLSTM(Model(width=64, embedding=8, hidden=8), 2)
    batch, names = make_batch(4, 3, 2, 16, 5)
    spots = 2 * 2 * 2
    assert 2 * spots**2 < model.encoder.features[6].weight.numel()
    compare(model, batch, names, 3)


def test_adapters_are_exact_beside_weights_that_stay():
    torch.manual_seed(0)
    model = CNNLSTM(Model(width=4, embedding=8, hidden=8, pretrained="0" * 64, adapters=2), 2)
    batch, names = make_batch(5, 4, 3, 16, 1)
    compare(model, batch, names, 2)


@pytest.mark.parametrize("more", [{}, {"frozen_stages": 2}, {"pretrained": "0" * 64, "adapters": 2}], ids=str)
def test_tokens_of_a_transformer_are_exact_too(more, monkeypatch):
    monkeypatch.setattr(vit, "DEPTH", 2)
    torch.manual_seed(0)
    model = CNNLSTM(Model(encoder="vit_tiny", patch=8, embedding=8, hidden=8, **more), 2)
    batch, names = make_batch(4, 3, 2, 16, 1)
    compare(model, batch, names, 2)


@pytest.mark.parametrize("size", [1.0, 1e3, 1e7, 1e10])
def test_no_weights_let_more_than_the_clip_through(size):
    """Two sequences of a patient pull the last layer in opposite directions: of large inputs that are nearly
    the same, float32 said that nothing was left, and thousands of clips were."""
    torch.manual_seed(0)
    model = CNNLSTM(Model(width=4, embedding=8, hidden=8, recurrent=False, l2_normalise=False, context=0), 1)
    batch, names = make_batch(2, 1, 1, 16, 3, findings=1)
    batch.labels[:, 0] = torch.tensor([0.0, 1.0])
    with torch.no_grad():
        model.head[1].bias.fill_(size)
        model.head[1].weight.fill_(size**0.5)
        model.head[3].weight.zero_()
        model.head[3].bias.zero_()
    PrivateGradients(model, 1.0).accumulate(as_patients(batch, names, np.arange(2)), loss_of)
    assert torch.cat([p.grad.flatten() for p in model.parameters()]).norm() < 1.001
