"""How a process that works on large arrays keeps its memory."""

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # malloc.h


def keep_memory() -> None:
    """Once a process: large arrays that were given back are used again.

    glibc's malloc maps and unmaps every large array, and the kernel clears it anew each time; a training
    step, or the reading of an image, is about twice as fast when the process may keep what it has. The same
    as MALLOC_MMAP_MAX_=0 and MALLOC_TRIM_THRESHOLD_=2 GiB in the environment, which would have to be set
    before the process starts.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # absent in musl
        if mallopt is not None:
            for option, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 2**26)):
                mallopt(option, value)
