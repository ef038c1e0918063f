"""Processes that read files: a decoder that hangs, crashes or eats memory costs one file, not the ingest.

Jobs and answers cross pipes as JSON and raw pixels, which cannot carry code: what decodes a hospital's odd
files is not trusted.
"""

import contextlib
import json
import multiprocessing as mp
import os
import resource
import signal
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass, field
from itertools import islice
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pydantic import TypeAdapter

from client.imaging.dicom import Header, HeadersOfFile, read_headers, read_patient
from client.imaging.outcome import Owner, Reason, Skipped
from client.imaging.pixels import DicomPixels, fit, read_pixels
from common.arrays import Pixels
from common.errors import DataError
from common.malloc import keep_memory
from common.plan import Input, Window

TIME_LIMIT_S = 5.0
MEMORY_LIMIT = 4 * 2**30
IN_HAND = 4
"""Jobs that a process has at a time: the next one lies ready when it has answered."""
FALSE_STARTS = 8
"""Processes that may end before they begin, one after the other: for a moment a machine may lack memory."""
AHEAD = 64
"""Answers that may wait for an earlier one: all that an ingest keeps in memory."""

Job = dict[str, Any]
Answer = bytes | Skipped
_CONTEXT = mp.get_context("forkserver")
_CONTEXT.set_forkserver_preload([__name__])


def headers_of(paths: list[Path], modality: str) -> Iterator[HeadersOfFile | Skipped]:
    """`read_headers` of every file, in order, by as many processes as there are cores."""
    jobs = ({"path": str(path), "modality": modality} for path in paths)
    for path, answer in zip(paths, answers_to(jobs, len(paths)), strict=True):
        yield answer if isinstance(answer, Skipped) else _headers_of_file(path, json.loads(answer))


def patients_of(paths: list[Path]) -> Iterator[str | Skipped]:
    """The Patient ID of every file, in order, whatever it holds."""
    for answer in answers_to(({"path": str(path)} for path in paths), len(paths)):
        yield answer if isinstance(answer, Skipped) else bytes(answer).decode()


def frames_of(wanted: list[DicomPixels], contract: Input) -> Iterator[Pixels | Skipped]:
    """Every image decoded and brought to the contract's size and depth, in order, by as many processes as
    there are cores."""
    jobs = (
        {
            "path": str(w.path), "frame": w.frame, "size": contract.size, "depth": contract.depth,
            "window": w.window and w.window.model_dump(),
        }
        for w in wanted
    )  # fmt: skip
    dtype = np.dtype(np.uint8 if contract.depth == 8 else np.uint16)
    for answer in answers_to(jobs, len(wanted)):
        if isinstance(answer, Skipped):
            yield answer
        else:
            yield np.frombuffer(answer, dtype).reshape(contract.size, contract.size)


def answers_to(jobs: Iterable[Job], count: int) -> Iterator[Answer]:
    """The answer to each of `count` jobs, in their order. Memory does not grow with their number."""
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.ExitStack() as stack:
        pool = _Pool(max(1, min(n_cores, count // 8)))
        stack.callback(pool.close)
        numbered = enumerate(jobs)
        for number in range(count):
            while number not in pool.done:
                pool.waiting.extend(islice(numbered, max(0, AHEAD - pool.open)))
                pool.work()
            yield pool.done.pop(number)


@dataclass
class _Process:
    """One reading process and the jobs that it has."""

    process: Any
    pipe: Connection
    has: deque[tuple[int, Job]] = field(default_factory=deque)
    since: float = 0.0  # when it began the first of them
    ready: bool = False

    @classmethod
    def start(cls) -> "_Process":
        pipe, theirs = _CONTEXT.Pipe()
        process = _CONTEXT.Process(target=_read_for, args=(theirs,), daemon=True)
        process.start()
        theirs.close()
        return cls(process, pipe)

    def end(self) -> None:
        self.pipe.close()
        self.process.kill()
        self.process.join()


class _Pool:
    """Deals jobs out to processes and replaces those that fail."""

    def __init__(self, n_processes: int) -> None:
        self._processes = [_Process.start() for _ in range(n_processes)]
        self._false_starts = 0  # since one began
        self.waiting: deque[tuple[int, Job]] = deque()
        self.done: dict[int, Answer] = {}

    @property
    def open(self) -> int:
        """Jobs that are waiting, in work, or answered and not yet asked for."""
        return len(self.waiting) + sum(len(p.has) for p in self._processes) + len(self.done)

    def work(self) -> None:
        """Deal out what waits, and take in what is answered, or overdue."""
        for reader in self._processes:
            while self.waiting and len(reader.has) < IN_HAND:
                self._give(reader, self.waiting.popleft())
        now = time.monotonic()
        limits = [r.since + TIME_LIMIT_S - now for r in self._processes if r.ready and r.has]
        for pipe in wait(
            [r.pipe for r in self._processes], timeout=max(0.0, min(limits, default=TIME_LIMIT_S))
        ):
            self._take(next(r for r in self._processes if r.pipe is pipe))
        for reader in self._processes:
            if reader.ready and reader.has and time.monotonic() - reader.since > TIME_LIMIT_S:
                self._replace(reader, Reason.TOO_SLOW)

    def _give(self, reader: _Process, job: tuple[int, Job]) -> None:
        if not reader.has:
            reader.since = time.monotonic()
        reader.has.append(job)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it died: reading from it will tell
            reader.pipe.send_bytes(json.dumps(job[1]).encode())

    def _take(self, reader: _Process) -> None:
        try:
            answer = reader.pipe.recv_bytes()
        except (EOFError, ConnectionResetError, OSError):
            if reader.ready:
                self._replace(reader, Reason.DECODER_CRASHED)
            else:
                self._start_again(reader)
            return
        reader.since = time.monotonic()
        if not reader.ready:
            reader.ready, self._false_starts = True, 0
            return
        number, _ = reader.has.popleft()
        self.done[number] = answer[1:] if answer[:1] == b"+" else _skipped(json.loads(answer[1:]))

    def _start_again(self, reader: _Process) -> None:
        """It ended before it could read anything: no file is to blame, and none is given up.

        Raises:
            DataError: none can start.
        """
        self._false_starts += 1
        if self._false_starts > FALSE_STARTS:
            raise DataError(
                "the processes that read files end before they begin; is there memory for them, and is a "
                'script that starts them guarded by: if __name__ == "__main__"?'
            )
        self._put_back(reader)

    def _replace(self, reader: _Process, reason: Reason) -> None:
        """The job in work is given up; the others of the process are done by its successor."""
        if reader.has:
            number, _ = reader.has.popleft()
            self.done[number] = Skipped(reason)
        self._put_back(reader)

    def _put_back(self, reader: _Process) -> None:
        self.waiting.extendleft(reversed(reader.has))
        reader.end()
        self._processes[self._processes.index(reader)] = _Process.start()

    def close(self) -> None:
        for reader in self._processes:
            reader.end()


def _read_for(pipe: Connection) -> None:
    """A reading process: answers jobs until its pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's; the pipe closes with it
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # decoders in C print what they find odd: not into our logs
    cv2.setNumThreads(1)
    keep_memory()
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_LIMIT, MEMORY_LIMIT))
    try:
        pipe.send_bytes(b"ready")
        while True:
            pipe.send_bytes(_answer(json.loads(pipe.recv_bytes())))
    except (EOFError, OSError):
        return


def _answer(job: Job) -> bytes:
    path = Path(job["path"])
    try:
        if "modality" in job:
            return b"+" + json.dumps(_describe(read_headers(path, job["modality"]))).encode()
        if "size" not in job:
            return b"+" + read_patient(path).encode()
        window = Window.model_validate(job["window"]) if job["window"] else None
        return b"+" + fit(read_pixels(path, window, job["frame"]), job["size"], job["depth"]).tobytes()
    except Skipped as skipped:
        return b"-" + json.dumps([skipped.reason.name, *astuple(skipped.owner)]).encode()
    except MemoryError:
        return b"-" + json.dumps([Reason.TOO_LARGE.name]).encode()


def _skipped(told: list[str]) -> Skipped:
    return Skipped(Reason[told[0]], Owner(*told[1:]))


_HEADER = TypeAdapter(Header)
_INTERNED = ("patient", "series", "study", "scanner", "view", "placed_by", "sex", "age", "body")
"""A hospital has a hundred thousand headers, and few of these words."""


def _describe(file: HeadersOfFile) -> dict[str, object]:
    images = [_HEADER.dump_python(h, mode="json", exclude={"path"}) for h in file.images]
    return {"images": images, "removed": file.removed, "identifiers": sorted(file.identifiers)}


def _headers_of_file(path: Path, told: dict[str, Any]) -> HeadersOfFile:
    images = [_header(path, image) for image in told["images"]]
    return HeadersOfFile(images, tuple(told["removed"]), frozenset(told["identifiers"]))


def _header(path: Path, told: dict[str, Any]) -> Header:
    told |= {name: sys.intern(told[name]) for name in _INTERNED}
    return _HEADER.validate_python({**told, "path": path})
