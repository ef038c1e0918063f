import pytest

from common.errors import ConfigError
from common.models.encoders import ENCODERS, build_encoder
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
