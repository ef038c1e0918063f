import numpy as np
import pytest

from client.methods.memory import KEPT, SiteMemory
from common.errors import DataError


def test_a_round_asked_for_again_starts_from_what_was_there_before_it(tmp_path):
    memory = SiteMemory(tmp_path)
    assert memory.before(1) == {}
    for number in range(1, 5):
        memory.keep(number, {"w": np.full(2, number, np.float32)})
    assert memory.before(5)["w"][0] == 4
    assert memory.before(4)["w"][0] == 3  # the server lost round 4, and asks again
    assert len(list(tmp_path.glob("round-*"))) == KEPT
    (tmp_path / "round-000004.safetensors").write_bytes(b"rubbish")
    with pytest.raises(DataError, match="cannot be read"):
        memory.before(5)
    with pytest.raises(DataError, match="no folder"):
        SiteMemory(None).before(1)


def test_what_never_counted_is_dropped_and_what_did_outlives_any_number_of_losses(tmp_path):
    memory = SiteMemory(tmp_path)
    for number in (1, 2):
        memory.keep(number, {"w": np.full(2, number, np.float32)})
    for lost in range(3, 7):  # 2 is the last that counted
        memory.drop_after(2)
        assert memory.before(lost)["w"][0] == 2
        memory.keep(lost, {"w": np.full(2, lost, np.float32)})
    memory.drop_after(6)  # it counted after all
    assert memory.before(7)["w"][0] == 6


def test_a_server_that_was_put_back_finds_what_it_asks_for_anew(tmp_path):
    memory = SiteMemory(tmp_path)
    for number in (5, 6, 3):
        memory.keep(number, {"w": np.full(2, number, np.float32)})
    assert memory.before(4)["w"][0] == 3


def test_the_last_round_that_left_something_is_known(tmp_path):
    memory = SiteMemory(tmp_path)
    assert memory.last() == 0
    for number in (2, 5):
        memory.keep(number, {"w": np.zeros(1, np.float32)})
    assert memory.last() == 5
