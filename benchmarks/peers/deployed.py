"""Ours, stock Flower and NVIDIA FLARE's POC deployed, side by side: a server and its sites as processes on
loopback.

    uv run python benchmarks/peers/deployed.py --json
    -> {"ours": {"round_s", "server_mb", "site_mb", "start_s", …}, "flower": {…}, "flare": {…}}

Nothing is trained: each site answers at once with random numbers of the model's size (`benchmarks/echo.py`),
and the last weights must be those that FedAvg makes of them. A round is the time from one request to the next
at the handler of the first site, the median of those after the first two; `start_s` is from the first process
to the first request. Memory is the largest sum over the server's processes, from the start and
(`server_rounds_mb`) from the first request, and over the first site's, each page counted once (PSS). Systems
take turns; the numbers are medians. FLARE is installed in an environment of its own.
"""

import argparse
import importlib
import json
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from run import ROOT, Memory, environment, marked, pss

sys.path += [
    str(ROOT),
    str(ROOT / "benchmarks"),
]  # for tests.helpers, deployed_round, echo

from federation import Federation, Job

SYSTEMS = {"ours": "deploy_ours", "flower": "deploy_flower", "flare": "deploy_flare"}
WARM_UP = 2
ROUNDING = 1e-5  # of float32 over some rounds; one update left out makes fifteen times as much

Numbers = dict[str, float]


class Timeline(Memory):
    """Keeps all that it saw."""

    def __init__(self, mark: str) -> None:
        super().__init__(mark)
        self.seen: list[tuple[float, int]] = []

    def run(self) -> None:
        """Until `ended`."""
        while not self.ended.wait(0.25):
            self.seen.append((time.time(), sum(map(pss, marked(self.mark)))))

    def peak_mb(self, since: float = 0.0) -> float:
        """From a moment on, in seconds since 1970."""
        return max((size for moment, size in self.seen if moment >= since), default=0) / 1e6


def make_job(parameters: int, rounds: int, n_sites: int) -> Job:
    """A plan of that many parameters, and its first weights."""
    from deployed_round import plan_of

    from common import wire
    from common.models import build_model
    from common.plan import Aggregation

    plan = plan_of(parameters, rounds, Aggregation())
    return Job(plan, dict(wire.get_weights(build_model(plan))), n_sites)


def measure(name: str, job: Job, python: str, limit_s: float) -> Numbers | None:
    """One run; None where it failed, did something else, or took longer than `limit_s`."""
    with tempfile.TemporaryDirectory(prefix="pf-", ignore_cleanup_errors=True) as place:
        f = Federation(job, Path(place), Path(python), limit_s)
        server, site = Timeline(f.mark("server")), Timeline(f.mark(job.sites[0]))
        server.start()
        site.start()
        try:
            last = importlib.import_module(SYSTEMS[name]).run(f)
            check(job, last, f)
        except Exception as e:  # whatever it is, it is told, and the next has its turn
            print(f"{name} failed: {type(e).__name__}: {e}\n{f.said()}", file=sys.stderr)
            return None
        finally:
            f.end()
            for memory in (server, site):
                memory.ended.set()
                memory.join()
        given = arrivals(f, job.sites[0])
        return {
            "round_s": float(np.median(np.diff(given)[WARM_UP:])), "start_s": given[0] - f.began,
            "server_mb": server.peak_mb(), "server_rounds_mb": server.peak_mb(given[0]),
            "site_mb": site.peak_mb(),
        }  # fmt: skip


def arrivals(f: Federation, site: str) -> list[float]:
    """When it was given each round."""
    return [float(line) for line in f.arrivals(site).read_text().split()]


def check(job: Job, last: dict[str, np.ndarray], f: Federation) -> None:
    """That it did the job: every site was in every round, and the weights are the ones expected."""
    for site in job.sites:
        if (n := len(arrivals(f, site))) != job.plan.rounds:
            raise RuntimeError(f"{site} was given {n} rounds, expected {job.plan.rounds}")
    expected = job.last_weights()
    off = max(float(np.abs(last[name] - expected[name]).max()) for name in expected)
    if off > ROUNDING:
        raise RuntimeError(f"its last weights are {off:g} from FedAvg's")


def summary(runs: list[Numbers], repeats: int) -> dict[str, object]:
    """Medians, the rounds of each run, and how many of the runs ended well."""
    finished = f"{len(runs)} of {repeats}"
    if not runs:
        return {"finished": finished}
    medians = {key: round(statistics.median(one[key] for one in runs), 3) for key in runs[0]}
    return {**medians, "each_round_s": [round(one["round_s"], 3) for one in runs], "finished": finished}


def main() -> None:
    """All systems by turns."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sites", type=int, default=3)
    parser.add_argument("--parameters", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=list(SYSTEMS))
    parser.add_argument("--limit", type=float, default=600.0, help="seconds after which a run is given up")
    parser.add_argument("--environments", type=Path, help="where peers are installed; kept, by default not")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    if asked.rounds < WARM_UP + 2:
        parser.error(f"--rounds is {asked.rounds}: the first {WARM_UP} and the last are not counted")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is ended, too
    job = make_job(asked.parameters, asked.rounds, asked.sites)
    found: dict[str, list[Numbers]] = {name: [] for name in asked.systems}
    with tempfile.TemporaryDirectory() as place:
        for _ in range(asked.repeats):
            for name in asked.systems:
                one = measure(name, job, environment(name, asked.environments or Path(place)), asked.limit)
                print(name, one, file=sys.stderr)
                found[name] += [one] if one else []
    told = {name: summary(runs, asked.repeats) for name, runs in found.items()}
    lines = (f"{name:<7} {numbers}" for name, numbers in told.items())
    print(json.dumps(told) if asked.json else "\n".join(lines))


if __name__ == "__main__":
    main()
