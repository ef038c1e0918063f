import os
import subprocess
import sys
import threading
import time

import pytest

from common.files import listed, waiting_for, whole_or_nothing, write_atomically, write_new
from server.checkpoint import load_checkpoint
from tests.helpers.denied import deny_listing


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


@pytest.mark.parametrize("was_there", [True, False])
def test_a_folder_that_cannot_be_filled_is_left_empty(tmp_path, was_there):
    """Half of a site's keys would be in the way of the next try."""
    folder = tmp_path / "new"
    if was_there:
        folder.mkdir()

    def fill():
        with whole_or_nothing(folder):
            (folder / "ca.key").write_text("a key")
            (folder / "sub").mkdir()
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        fill()
    assert folder.exists() == was_there
    assert not was_there or list(folder.iterdir()) == []
    with whole_or_nothing(folder):
        (folder / "ca.key").write_text("a key")
    assert (folder.stat().st_mode & 0o777, os.listdir(folder)) == (0o700, ["ca.key"])


def test_who_waits_for_a_lock_comes_after_who_has_it(tmp_path):
    order, lock = [], tmp_path / "lock"

    def second():
        with waiting_for(lock):
            order.append("second")

    with waiting_for(lock):
        other = threading.Thread(target=second)
        other.start()
        other.join(0.2)
        order.append("first")
    other.join(10)
    assert order == ["first", "second"]


def test_a_full_disk_is_said_of_the_file_and_leaves_nothing(tmp_path):
    """The system names none; what is half a key would be in the way of the next."""
    code = f"""
import resource
from pathlib import Path
from common.files import write_atomically, write_new
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
for write in (write_atomically, write_new):
    try:
        write(Path({str(tmp_path)!r}) / "f", b"x")
    except OSError as e:
        print(e.filename)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], timeout=60, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(tmp_path / "f")] * 2
    assert os.listdir(tmp_path) == []


def test_what_is_new_overwrites_nothing(tmp_path):
    write_new(tmp_path / "f", b"one")
    with pytest.raises(FileExistsError):
        write_new(tmp_path / "f", b"two")
    assert (tmp_path / "f").read_bytes() == b"one"
    assert os.listdir(tmp_path) == ["f"]


def test_a_folder_that_is_not_there_is_empty_one_that_cannot_be_listed_is_not(tmp_path, monkeypatch):
    assert listed(tmp_path / "absent") == []
    write_new(tmp_path / "b", b"")
    write_new(tmp_path / "a", b"")
    assert [path.name for path in listed(tmp_path)] == ["a", "b"]
    deny_listing(monkeypatch, tmp_path)
    with pytest.raises(PermissionError):
        listed(tmp_path)


def test_another_user_s_lock_can_be_held(tmp_path):
    """Made by root, as by a command under sudo: whoever locks need not write."""
    lock = tmp_path / ".lock"
    lock.touch(mode=0o444)
    code = f"""
from pathlib import Path
from common.files import held, waiting_for
for lock in (lambda path: held(path, "in use"), waiting_for):
    with lock(Path({str(lock)!r})):
        print("held")
"""
    as_no_root = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    done = subprocess.run([*as_no_root, sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "held\n" * 2, done.stderr


def test_who_waits_is_told(tmp_path):
    told, inside = threading.Event(), []

    def wait():
        with waiting_for(tmp_path / ".lock", told.set):
            inside.append(told.is_set())

    with waiting_for(tmp_path / ".lock", lambda: inside.append("nobody is there")):
        waiting = threading.Thread(target=wait)
        waiting.start()
        assert told.wait(10)
        assert inside == []
    waiting.join(10)
    assert inside == [True]
