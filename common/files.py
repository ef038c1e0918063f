"""Files that are whole or not there, whatever ends the process that writes them."""

import fcntl
import math
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TypeVar, cast

from common.errors import RunError

T = TypeVar("T")


def write_atomically(path: Path, data: bytes) -> None:
    """Write beside `path`, flush to the disk, rename over it, flush the folder. Raises OSError that names
    `path`, leaving the old file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _beside(path, data, 0o666) as beside:
        os.replace(beside, path)
    _flush_folder(path.parent)


def write_new(path: Path, data: bytes) -> None:
    """A file with mode 0600, whole or not there. It is never readable by others, not even for a moment, and
    never overwrites. Raises OSError that names `path`, FileExistsError if it is there."""
    with _beside(path, data, 0o600) as beside:
        os.link(beside, path)
        beside.unlink()
    _flush_folder(path.parent)


@contextmanager
def _beside(path: Path, data: bytes, mode: int) -> Iterator[Path]:
    """A new file beside `path` with `data`, on the disk; removed if the block fails."""
    beside = path.with_name(f".{path.name}.writing")
    try:
        with open(beside, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield beside
    except OSError as e:  # one of a full disk names no file
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise OSError(e.errno, e.strerror, str(path)) from None


def _flush_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def without_nan(tree: T) -> T:
    """NaN and infinity as null: JSON has neither."""
    plain: object = tree
    if isinstance(tree, dict):
        plain = {key: without_nan(value) for key, value in tree.items()}
    elif isinstance(tree, (list, tuple)):
        plain = [without_nan(value) for value in tree]
    elif isinstance(tree, float) and not math.isfinite(tree):
        plain = None
    return cast(T, plain)


@contextmanager
def held(lock: Path, in_use: str) -> Iterator[None]:
    """Hold `lock` for this process alone; the kernel lets go of it when the process ends, however it ends.

    Raises:
        RunError: another process holds it (`in_use` is the message), or it cannot be made.
    """
    try:
        file = _opened(lock)
    except OSError as e:
        raise RunError(f"{lock.parent}: cannot be used: {e.strerror}") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunError(in_use) from None
        yield


@contextmanager
def waiting_for(lock: Path, waits: Callable[[], None] = lambda: None) -> Iterator[None]:
    """As `held`, but waits until the other lets go of it, and calls `waits` if that is not now. Raises
    OSError."""
    with _opened(lock) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waits()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _opened(lock: Path) -> BinaryIO:
    """It may be another user's: whoever locks a file need not write to it."""
    return os.fdopen(os.open(lock, os.O_RDONLY | os.O_CREAT, 0o644), "rb")


@contextmanager
def changing(path: Path) -> Iterator[None]:
    """While a file that several commands may change at once is read, changed and written: the next one waits.
    Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with waiting_for(path.with_name(f".{path.name}.lock")):
        yield


@contextmanager
def whole_or_nothing(folder: Path) -> Iterator[None]:
    """Make `folder` (mode 0700), which is not there or empty; whatever fails then, nothing is left in it."""
    was_there = folder.exists()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)
    try:
        yield
    except BaseException:
        for path in [folder] if not was_there else folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        raise


def listed(folder: Path) -> list[Path]:
    """What lies in `folder`, in order; nothing where there is none. Raises OSError if it cannot be listed:
    a glob would find nothing there."""
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []


def next_free(parent: Path, name: str) -> Path:
    """parent/name, or parent/name-2, -3, … : the first that does not exist."""
    candidates = (parent / (name if i == 1 else f"{name}-{i}") for i in range(1, 1_000_000))
    return next(path for path in candidates if not path.exists())
