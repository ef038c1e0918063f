"""A server and its sites as processes on loopback, each with a mark in its environment by which it is watched
and ended, and whatever it started itself, too."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import echo
import numpy as np
from run import HERE, MARK, ROOT, marked

from common.plan import Plan

VARIABLES = {
    "PYTHONPATH": os.pathsep.join(map(str, (ROOT / "benchmarks", HERE))), "OMP_NUM_THREADS": "1",
    "FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1",
}  # fmt: skip
UNSET = "PYTHONDONTWRITEBYTECODE"  # who starts processes often would compile its program each time


@dataclass(frozen=True)
class Job:
    """What all systems do: FedAvg of what `echo.update` gives, from the same first weights."""

    plan: Plan
    weights: echo.Weights
    n_sites: int

    @property
    def sites(self) -> list[str]:
        """Their names."""
        return [f"site-{number}" for number in range(1, self.n_sites + 1)]

    def last_weights(self) -> echo.Weights:
        """What is to come out of it: each round adds the mean of the sites' updates."""
        total = {name: w.astype(np.float64) for name, w in self.weights.items()}
        shapes = {name: w.shape for name, w in self.weights.items()}
        for round in range(1, self.plan.rounds + 1):
            for site in self.sites:
                for name, u in echo.update(shapes, site, round).items():
                    total[name] += u / self.n_sites
        return {name: w.astype(np.float32) for name, w in total.items()}


class Federation:
    """The processes of one run, in a folder of its own. `python` is the one of the system's environment."""

    def __init__(self, job: Job, folder: Path, python: Path, limit_s: float) -> None:
        self.job, self.folder, self.python = job, folder, python
        self.began, self._ends, self._run = 0.0, time.monotonic() + limit_s, time.time_ns()

    @property
    def left_s(self) -> float:
        """Until it is given up."""
        return max(0.0, self._ends - time.monotonic())

    def mark(self, name: str) -> str:
        """Of the processes of "server", of a site, or of "user"."""
        return f"{self._run}-{name}"

    def arrivals(self, name: str) -> Path:
        """The file in which a site notes when it was given a round."""
        return self.folder / f"{name}.arrivals"

    def start(self, name: str, words: list[str]) -> subprocess.Popen[bytes]:
        """A process of the server, a site or the user; what it says goes to `name`.log."""
        self.began = self.began or time.time()
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                words, env=self.variables(name), cwd=self.folder, stdout=log, stderr=log,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip

    def variables(self, name: str) -> dict[str, str]:
        """The environment of its processes. Homes are in the folder: nothing of a user's is read or left."""
        inherited = {key: value for key, value in os.environ.items() if key != UNSET}
        path = f"{self.python.parent}{os.pathsep}{os.environ['PATH']}"
        homes = dict.fromkeys(("HOME", "FLWR_HOME"), str(self.folder / "home"))
        places = {echo.ARRIVALS: str(self.arrivals(name)), "NVFLARE_POC_WORKSPACE": str(self.folder / "poc")}
        return {**inherited, **VARIABLES, **homes, **places, MARK: self.mark(name), "PATH": path}

    def must(self, words: list[str]) -> None:
        """A command of the user's, to its end; raises SubprocessError."""
        subprocess.run(
            words, env=self.variables("user"), cwd=self.folder, capture_output=True, text=True, check=True,
            timeout=self.left_s,
        )  # fmt: skip

    def wait(self, what: str, there: Callable[[], bool]) -> None:
        """Until it is so; raises TimeoutError."""
        while not there():
            if not self.left_s:
                raise TimeoutError(f"{what}: not within the time")
            time.sleep(0.1)

    def end(self) -> None:
        """Kill what still runs, and what that starts meanwhile."""
        marks = [f"{MARK}={self.mark(name)}".encode() for name in ("server", "user", *self.job.sites)]
        while left := [process for mark in marks for process in marked(mark)]:
            for process in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(process.name), signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            time.sleep(0.1)

    def said(self) -> str:
        """The ends of what they said, for a look at what went wrong."""
        logs = sorted(self.folder.glob("*.log"))
        return "\n".join(f"{log.name}: {log.read_text(errors='replace')[-1500:]}" for log in logs)
