import pytest
from pydantic import ValidationError

from common.plan import Privacy


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ({"epsilon": 3.0}, "delta"),
        ({"epsilon": 0.0, "delta": 1e-5}, "greater than or equal to 0.01"),
        ({"epsilon": -1.0, "delta": 1e-5}, "greater than or equal to 0.01"),
        ({"delta": 1e-5}, "either epsilon or noise_multiplier"),
        ({"epsilon": 3.0, "noise_multiplier": 1.0, "delta": 1e-5}, "either epsilon or noise_multiplier"),
        ({"epsilon": 3.0, "delta": 1e-5, "unit": "image"}, "patient"),
    ],
)
def test_a_wrong_privacy_block_is_refused(block, said):
    with pytest.raises(ValidationError, match=said):
        Privacy(**block)
