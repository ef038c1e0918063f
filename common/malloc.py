"""How a process that works on large arrays keeps its memory."""

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -2, -3, -4  # malloc.h


def keep_memory() -> None:
    """Once a process: large arrays that were given back are used again.

    glibc's malloc maps and unmaps every large array, and the kernel clears it anew each time; a training
    step, or the reading of an image, is about twice as fast when the process may keep what it has. The same
    as MALLOC_MMAP_MAX_=0 and MALLOC_TRIM_THRESHOLD_=2 GiB in the environment, which would have to be set
    before the process starts.
    """
    _set((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 2**26))


def give_memory_back() -> None:
    """Once a process that passes models on: what it does not use any more is the machine's again.

    glibc's malloc stops mapping arrays as large as those that were given back before, up to 32 MiB; then
    pieces of models lie between what stays, and keep their memory for ever.
    """
    _set((_MMAP_THRESHOLD, 2**20))


def _set(*options: tuple[int, int]) -> None:
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # absent in musl
        if mallopt is not None:
            for option, value in options:
                mallopt(option, value)
