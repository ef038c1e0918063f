import pytest
from pydantic import ValidationError

from common.models.encoders import ENCODERS
from common.plan import Model


def test_every_encoder_of_the_plan_exists():
    assert set(Model.model_fields["encoder"].annotation.__args__) == set(ENCODERS)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"adapters": 4}, "name their file in pretrained"),
        ({"adapters": 4, "pretrained": "0" * 64, "frozen_stages": 1}, "leave frozen_stages or"),
    ],
)
def test_adapters_that_could_not_train_are_refused(changes, said):
    with pytest.raises(ValidationError, match=said):
        Model(**changes)
