import pytest
import torch
from torch import nn

from common.errors import ConfigError
from common.models.encoders import ENCODERS, averaging, build_encoder
from common.plan import Model


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_every_parameter_belongs_to_one_stage_and_frozen_ones_ask_for_no_gradient(name):
    about = ENCODERS[name]
    for frozen in range(len(about.stages) + 1):
        encoder = build_encoder(Model(encoder=name, embedding=8, frozen_stages=frozen), 2)
        for key, parameter in encoder.named_parameters():
            stages = [i for i, stage in enumerate(about.stages) if key.startswith(stage)]
            assert len(stages) == 1, key
            assert parameter.requires_grad == (stages[0] >= frozen)
    with pytest.raises(ConfigError, match=f"{name} has {len(about.stages)} stages"):
        build_encoder(Model(encoder=name, frozen_stages=16), 2)


@pytest.mark.parametrize(("size", "grid"), [(8, 3), (2, 3), (7, 3), (5, 5)])
def test_means_over_a_grid_are_matrix_products_too(size, grid):
    x = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        averaging(size, grid)
    weights = averaging(size, grid)  # remembered, and usable in training
    assert not weights.is_inference()
    torch.testing.assert_close(weights @ x @ weights.T, nn.AdaptiveAvgPool2d(grid)(x))


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_the_map_of_explanations_has_places(name):
    encoder = build_encoder(Model(encoder=name, embedding=8), 2)
    seen = []
    encoder.get_submodule(ENCODERS[name].map).register_forward_hook(lambda *args: seen.append(args[2]))
    with torch.no_grad():
        encoder(torch.rand(3, 2, 64, 64))
    (found,) = seen
    assert found.ndim == 4
    assert found.shape[0] == 3
    assert found.shape[2] == found.shape[3] > 1
