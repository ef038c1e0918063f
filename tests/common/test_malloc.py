"""Memory that was given back is kept, where the C library can."""

import ctypes
import subprocess
import sys

import pytest

from common import malloc

MEASURE_KEPT = """
import sys
import numpy as np
from common import malloc
if sys.argv[1] == "give back":
    malloc.give_memory_back()
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
np.ones(30 * 2**20, np.uint8)  # as large as this are mapped no more when they were given back once
before = resident()
pieces, small = [], []
for _ in range(40):
    pieces.append(np.ones(5 * 2**19, np.uint8))
    small.append(np.ones(2**10, np.uint8))
del pieces
print(resident() - before)
"""
COUNT_FAULTS = """
import resource, sys
import numpy as np
from common.malloc import keep_memory
if sys.argv[1] == "keep":
    keep_memory()
def work():
    for _ in range(5):
        np.ones(40_000_000, np.uint8)
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


needs_mallopt = pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="needs glibc's mallopt"
)


def told(program, how):
    """The number that a program prints in a process of its own."""
    command = [sys.executable, "-c", program, how]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@needs_mallopt
def test_a_large_array_costs_no_new_pages_when_memory_is_kept():
    assert told(COUNT_FAULTS, "keep") < 0.1 * told(COUNT_FAULTS, "give back")


@needs_mallopt
def test_pieces_that_lay_between_what_stays_are_given_back():
    kept, given_back = told(MEASURE_KEPT, "as it is"), told(MEASURE_KEPT, "give back")
    assert kept > 50 * 2**20 > 10 * 2**20 > given_back


def test_a_c_library_without_it_is_left_alone(monkeypatch):
    monkeypatch.setattr(malloc.ctypes, "CDLL", lambda name: object())
    malloc.keep_memory()
