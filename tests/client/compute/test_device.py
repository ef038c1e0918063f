import pytest

from client.compute.device import choose_device
from common.errors import ConfigError


@pytest.mark.parametrize("name", ["tpu", "cuda:x", "cuda:99", "", "CPU"])
def test_a_device_that_is_not_there_is_refused(name):
    with pytest.raises(ConfigError, match="device: found"):
        choose_device(name)
