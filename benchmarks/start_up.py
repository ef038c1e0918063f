"""Seconds from typing the command to the first training step, cohorts ready, and to the end of the
quickstart.

uv run python benchmarks/start_up.py --json     ->  {"first_step_s": 6.2, "phantom_and_ingest_s": 5.1}
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time

STEP = """
import sys, time
from client.training import optimizer
step = optimizer.Optimizer.step
def first(self, rate):
    step(self, rate)
    print("first step", time.time(), flush=True)
    sys.stdout.flush()
    import os; os._exit(0)
optimizer.Optimizer.step = first
from pneumofed.cli import main
sys.argv = ["pneumofed", *sys.argv[1:]]
main()
"""


def first_step(*arguments: str) -> float:
    """Start a process and return the seconds until its first optimiser step is done."""
    started = time.time()
    done = subprocess.run(
        [sys.executable, "-c", STEP, "simulate", *arguments], capture_output=True, text=True, check=True
    )
    return float(done.stdout.split()[-1]) - started


def measure(repeats: int) -> dict[str, float]:
    """The first run makes the data, the others find it (their folder is resumed), as a researcher's second
    run does."""
    with tempfile.TemporaryDirectory() as folder:
        out = f"{folder}/run"
        fresh = first_step("--out", out)
        warm = [first_step("--out", out, "--resume") for _ in range(repeats)]
    median = statistics.median(warm)
    return {"first_step_s": median, "with_new_data_s": fresh, "phantom_and_ingest_s": fresh - median}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    result = measure(arguments.repeats)
    print(json.dumps(result) if arguments.json else "\n".join(f"{k}: {v:.2f}" for k, v in result.items()))
