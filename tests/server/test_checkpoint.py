import os
import subprocess
import sys
import time

import numpy as np
import pytest

from common.errors import RunError
from common.files import write_atomically
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


def test_another_plan_s_checkpoint_is_refused(tmp_path):
    save_checkpoint(tmp_path, Checkpoint(1, {"w": np.zeros(1, np.float32)}), "abc")
    with pytest.raises(RunError, match="belongs to plan abc, the plan given is def"):
        load_checkpoint(tmp_path, "def")


@pytest.mark.parametrize("data", [b"", b"rubbish", b"\x10\0\0\0\0\0\0\0{}              "])
def test_a_damaged_checkpoint_is_refused(tmp_path, data):
    (tmp_path / NAME).write_bytes(data)
    with pytest.raises(RunError):
        load_checkpoint(tmp_path, "abc")


def test_a_full_disk_leaves_the_old_file(tmp_path):
    path = tmp_path / "f"
    write_atomically(path, b"old")
    code = f"""
import resource, signal, sys
from pathlib import Path
from common.files import write_atomically
from common.results.rounds import RoundReport
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_atomically(Path({str(path)!r}), b"x" * 5000)
except OSError:
    sys.exit(7)
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 7
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["f"]


def test_a_kill_at_any_moment_leaves_the_old_or_the_new(tmp_path):
    code = f"""
from pathlib import Path
import numpy as np
from server.checkpoint import Checkpoint, save_checkpoint
i = 0
print("go", flush=True)
while True:
    save_checkpoint(Path({str(tmp_path)!r}), Checkpoint(i, {{"w": np.full(200_000, i, np.float32)}}), "abc")
    i += 1
"""
    for attempt in range(6):
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            time.sleep(0.05 + 0.013 * attempt)
            process.kill()
        found = load_checkpoint(tmp_path, "abc")
        assert found is None or (found.weights["w"] == found.round).all()
    assert found is not None
