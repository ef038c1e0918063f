"""Memory that was given back is kept, where the C library can."""

import ctypes
import subprocess
import sys

import pytest

from common import malloc

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


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="needs glibc's mallopt"
)
def test_a_large_array_costs_no_new_pages_when_memory_is_kept():
    def faults(how):
        command = [sys.executable, "-c", COUNT_FAULTS, how]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert faults("keep") < 0.1 * faults("give back")


def test_a_c_library_without_it_is_left_alone(monkeypatch):
    monkeypatch.setattr(malloc.ctypes, "CDLL", lambda name: object())
    malloc.keep_memory()
