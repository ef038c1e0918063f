import os
import subprocess
import sys
import time

import pytest

from common.files import write_atomically
from server.checkpoint import load_checkpoint


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


@pytest.mark.slow
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
