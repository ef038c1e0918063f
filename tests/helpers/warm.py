"""Processes that begin with torch loaded.

The suite starts hundreds of servers, agents and workers, and in most of them loading torch takes longer than what is
tested. One process a test worker loads everything once; the others are forked from it, by the standard library's
forkserver. What is under test there is the same code in a process of its own; how a program starts from nothing is
tested with another clock or program (test_rehearsal.py, test_faults.py), with the wheel (test_release.py) and where the
researcher's commands are typed (test_commands.py).
"""

import contextlib
import ctypes
import multiprocessing.context as context
import multiprocessing.forkserver as forkserver
import multiprocessing.popen_forkserver as popen
import multiprocessing.process as process
import multiprocessing.resource_tracker as resource_tracker
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from multiprocessing import reduction
from multiprocessing.connection import wait
from pathlib import Path

ROOT = Path(__file__).parents[2]
CLONE_NEWNET = 0x40000000  # linux/sched.h
PATH = sys.path.copy()
"""Of the process that loads everything: a stand-in knows the standard library only, and would hand its own on."""
PRELOAD = [
    __name__,
    "client.agent",
    "client.app",
    "common.models.pretrained",
    "server.app",
    "tests.helpers.built",
]


class _Server(forkserver.ForkServer):
    """Apart from the interpreter's own, which the program under test may use (client/imaging/reader.py)."""

    def __init__(self) -> None:
        super().__init__()
        self.set_forkserver_preload(PRELOAD)

    def ensure_running(self) -> None:
        if self._forkserver_address is None:
            super().ensure_running()
        resource_tracker.ensure_running()

    def inherit(self) -> None:
        """In a process that was forked from it: fork the next ones from it, too."""
        own = forkserver._forkserver
        self._forkserver_address, self._forkserver_alive_fd = (
            own._forkserver_address,
            own._forkserver_alive_fd,
        )


_SERVER = _Server()


class _Popen(popen.Popen):
    """`popen.Popen` asks the module `forkserver`; this one asks our server."""

    def _launch(self, process_obj) -> None:
        asked = popen.forkserver
        popen.forkserver = self
        try:
            super()._launch(process_obj)
        finally:
            popen.forkserver = asked

    connect_to_new_process = staticmethod(_SERVER.connect_to_new_process)
    read_signed = staticmethod(forkserver.read_signed)


class _Process(context.SpawnProcess):
    """What code that asks for `spawn` gets: it dies with its parent, as it would in one process group with it."""

    _start_method = "forkserver"

    @staticmethod
    def _Popen(process_obj):
        return _Popen(process_obj)

    def run(self) -> None:
        _SERVER.inherit()
        parent = process.parent_process()
        Path("/proc/self/comm").write_text(child_of(parent.pid))
        threading.Thread(target=_die_with, args=(parent.sentinel,), daemon=True).start()
        super().run()


def child_of(parent: int) -> str:
    """The name that such a process has for the kernel: its real parent is the one that it was forked from."""
    return f"of-{parent}"


def children_of(parent: int) -> list[int]:
    """The numbers of those that live."""
    found = []
    for path in Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            if path.read_text() == child_of(parent) + "\n":
                found.append(int(path.parent.name))
    return found


def kill(process: subprocess.Popen) -> None:
    """kill -9 who stands in (`command`); the program is gone, and its locks with it, when this returns."""
    process.kill()
    process.wait()
    while children_of(process.pid):
        time.sleep(0.01)


def _die_with(sentinel: int) -> None:
    wait([sentinel])
    os.kill(os.getpid(), signal.SIGKILL)


def install() -> None:
    """From now on this process's `spawn` is warm."""
    context.SpawnContext.Process = _Process


class Program:
    """`pneumofed …` in a process group of its own: what is used of subprocess.Popen."""

    def __init__(self, words: Sequence[str], out: Path, err: Path, cwd: Path | None = None) -> None:
        """What it says is appended to `out` and `err`, which may be one file."""
        self._process = _Process(target=_run, args=(list(words), out, err, cwd or Path.cwd()))
        self._process.start()
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def terminate(self) -> None:
        self._process.terminate()

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("pneumofed", timeout or 0.0)
        return self._process.exitcode


def run(words: Sequence[str], cwd: Path, timeout: float) -> subprocess.CompletedProcess[str]:
    """As `subprocess.run` with captured text."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        program = Program(words, out, err, cwd)
        try:
            code = program.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(program.pid, signal.SIGKILL)
            raise
        return subprocess.CompletedProcess(
            words, code, out.read_text(errors="replace"), err.read_text(errors="replace")
        )


def _run(words: list[str], out: Path, err: Path, cwd: Path) -> None:
    os.setsid()
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), number)
    _main(words, cwd)


def _main(words: list[str], cwd: Path) -> None:
    install()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(cwd)
    # Those that were there were made for other files, of which one can tell where one is.
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    sys.argv = ["pneumofed", *words]
    from tests.helpers.built import main

    main()


STUB = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tests.helpers.warm import stand_in; stand_in(*sys.argv[1:])"


def command() -> list[str]:
    """What to type for `pneumofed` in a shell or behind a prefix: it stands for the process, with its folder, environment,
    network, input, output, signals and exit code. With another program or another clock it is the process itself."""
    _SERVER.ensure_running()
    return [sys.executable, "-S", "-c", STUB, str(_SERVER._forkserver_address)]


def stand_in(address: str, *words: str) -> None:
    if os.environ.keys() & {"PYTHONPATH", "LD_PRELOAD"}:
        os.execv(sys.executable, [sys.executable, "-m", "pneumofed.cli", *words])
    _SERVER._forkserver_address, _SERVER._forkserver_alive_fd = address, os.open(os.devnull, os.O_RDONLY)
    network = os.open("/proc/self/ns/net", os.O_RDONLY)
    program = _Process(
        target=_take_over, args=(words, Path.cwd(), dict(os.environ), _Streams(0, 1, 2, network))
    )
    program.start()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _: os.kill(program.pid, number))
    program.join()
    os._exit(program.exitcode if program.exitcode >= 0 else 128 - program.exitcode)


class _Streams:
    """Open files that cross to the process as what they are."""

    def __init__(self, *numbers: int) -> None:
        self.numbers = numbers

    def __reduce__(self):
        return _taken, tuple(reduction.DupFd(number) for number in self.numbers)


def _taken(*files) -> list[int]:
    return [file.detach() for file in files]


def _take_over(words: list[str], cwd: Path, env: dict[str, str], streams: list[int]) -> None:
    os.setsid()
    *streams, network = streams
    if ctypes.CDLL(None, use_errno=True).setns(network, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
    os.close(network)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(env)
    sys.path[:] = PATH
    _main(words, cwd)
