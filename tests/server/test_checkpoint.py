import numpy as np
import pytest

from common.errors import RunError
from common.results.rounds import RoundReport
from server.checkpoint import NAME, Checkpoint, load_checkpoint, save_checkpoint


def test_a_checkpoint_comes_back_whole(tmp_path):
    before = Checkpoint(
        3,
        {"w": np.arange(3, dtype=np.float32)},
        {"m|list|000000": np.array(2.5)},
        (RoundReport(round=3, bytes_down=1, bytes_up=2, sites={"a": {"loss": 0.5}}, failed={}),),
    )
    assert load_checkpoint(tmp_path, "abc") is None
    save_checkpoint(tmp_path, before, "abc")
    after = load_checkpoint(tmp_path, "abc")
    assert (after.round, after.history) == (3, before.history)
    assert (after.weights["w"] == before.weights["w"]).all()
    assert after.strategy["m|list|000000"] == 2.5
    assert after.bounds == {}


def test_bounds_come_back_to_the_last_bit(tmp_path):
    bounds = {"w": 0.1 + 0.2, "v": 1e-30}
    save_checkpoint(tmp_path, Checkpoint(1, {"w": np.zeros(1, np.float32)}, bounds=bounds), "abc")
    assert load_checkpoint(tmp_path, "abc").bounds == bounds


def test_another_plan_s_checkpoint_is_refused(tmp_path):
    save_checkpoint(tmp_path, Checkpoint(1, {"w": np.zeros(1, np.float32)}), "abc")
    with pytest.raises(RunError, match="belongs to plan abc, the plan given is def"):
        load_checkpoint(tmp_path, "def")


@pytest.mark.parametrize("data", [b"", b"rubbish", b"\x10\0\0\0\0\0\0\0{}              "])
def test_a_damaged_checkpoint_is_refused(tmp_path, data):
    (tmp_path / NAME).write_bytes(data)
    with pytest.raises(RunError):
        load_checkpoint(tmp_path, "abc")
