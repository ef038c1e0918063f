import os

import pytest
import torch

from client.compute.device import choose_device, set_up_process
from common.errors import ConfigError


@pytest.mark.parametrize("name", ["tpu", "cuda:x", "cuda:²", "cuda:99", "", "CPU"])
def test_a_device_that_is_not_there_is_refused(name):
    with pytest.raises(ConfigError, match="device: found"):
        choose_device(name)


def test_a_process_repeats_itself_and_keeps_all_bits_of_float32():
    set_up_process()
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.is_deterministic_algorithms_warn_only_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert not torch.backends.cudnn.allow_tf32
