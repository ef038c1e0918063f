"""Adapters against the sum of both layers' weights, and what they leave alone."""

import pytest
import torch
from torch import nn

from common.models.adapters import AdaptedConv2d, AdaptedLinear, adapt, adapters_of
from common.models.encoders import ENCODERS, build_encoder
from common.plan import Model


@pytest.mark.parametrize("sides", [(3, 2, 1, 1), (1, 1, 0, 1), (5, 1, 2, 2)])
@torch.no_grad()
def test_an_adapted_convolution_is_one_with_a_low_rank_change_of_its_weights(sides):
    torch.manual_seed(0)
    layer = AdaptedConv2d(nn.Conv2d(6, 10, *sides), 2)
    x = torch.rand(3, 6, 9, 9)
    assert torch.equal(layer(x), nn.Conv2d.forward(layer, x))  # it starts as it was
    nn.init.normal_(layer.up.weight)
    change = torch.einsum("or,rikl->oikl", layer.up.weight[:, :, 0, 0], layer.down.weight)
    _, stride, padding, dilation = sides
    expected = nn.functional.conv2d(x, layer.weight + change, layer.bias, stride, padding, dilation)
    torch.testing.assert_close(layer(x), expected)


@torch.no_grad()
def test_an_adapted_linear_layer_too():
    torch.manual_seed(0)
    layer = AdaptedLinear(nn.Linear(6, 10), 2)
    x = torch.rand(3, 6)
    assert torch.equal(layer(x), nn.Linear.forward(layer, x))
    nn.init.normal_(layer.up.weight)
    expected = nn.functional.linear(x, layer.weight + layer.up.weight @ layer.down.weight, layer.bias)
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_of_an_encoder_its_adapters_and_projection_train(name):
    model = Model(encoder=name, embedding=8, pretrained="0" * 64, adapters=3)
    encoder, plain = build_encoder(model, 2), build_encoder(Model(encoder=name, embedding=8), 2)
    names = dict(encoder.named_parameters())
    adapters = adapters_of(encoder)
    assert names.keys() - adapters == dict(plain.named_parameters()).keys()  # a file's names still fit
    trained = {n for n, p in names.items() if p.requires_grad}
    projection = {n for n in names if n.startswith(ENCODERS[name].stages[-1])}
    assert trained == adapters | projection
    dense = [
        m for m in plain.modules() if isinstance(m, (nn.Conv2d, nn.Linear)) and getattr(m, "groups", 1) == 1
    ]
    assert len(adapters) == 2 * (len(dense) - 1)  # all but the projection
    x = torch.rand(2, 2, 64, 64)
    plain.load_state_dict({n: t for n, t in encoder.state_dict().items() if n not in adapters})
    assert torch.equal(encoder(x), plain(x))


def test_layers_with_groups_and_what_is_named_stay():
    encoder = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3, groups=2), nn.Flatten(), nn.Linear(8, 2))
    adapt(encoder, 1, but=("3.",))
    assert [type(m) for m in encoder] == [AdaptedConv2d, nn.Conv2d, nn.Flatten, nn.Linear]
