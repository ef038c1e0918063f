"""What a round costs against sites, frames, parameters and clients, and with which exponent.

    uv run python benchmarks/scale/run.py --json --plot scale.svg
    -> {"sites": {"points": {"10": {"cpu_s", "megabytes", "bytes", …}, …},
                  "exponents": {"cpu_s": [b, low, high], …}}, "frames": …, "parameters": …, "clients": …}

Sites, frames and parameters are varied in a simulation of one process and thread (simulated.py), clients
against a deployed server (clients.py); each point is a process of its own. An exponent is the slope of the
logarithms, with its 95 % interval (least squares, Student's t). Seconds of the processor say what the work
costs, whoever else the machine works for.
"""

import argparse
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parents[1]))

SITES, FRAMES, HIDDEN, CLIENTS = (
    (10, 30, 100, 300, 1000),
    (1, 2, 4, 8, 16),
    (32, 64, 128, 256, 512),
    (3, 10, 30, 100, 300),
)
COSTS = {
    "cpu_s": "seconds of the processor",
    "megabytes": "MB above the idle process",
    "bytes": "bytes up and down",
}
"""What is fitted where it was measured; what else was is in the points."""

Point = Mapping[str, float]
Points = dict[str, Point]


def simulated(rounds: int, sites: int = 10, frames: int = 2, hidden: int = 32) -> Point:
    """One point, in a process of its own."""
    words = [sys.executable, str(HERE / "simulated.py"), *map(str, (sites, frames, hidden, rounds))]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parents[1])}
    done = subprocess.run(words, env=variables, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return {k: float(v) for k, v in json.loads(done.stdout.splitlines()[-1]).items()}


def against_parameters(rounds: int) -> Points:
    """By the number of parameters, which the LSTM's hidden size decides."""
    found = [simulated(rounds, hidden=hidden) for hidden in HIDDEN]
    return {str(int(point["parameters"])): point for point in found}


def against_clients(rounds: int) -> Points:
    """By the number of clients of a deployed server."""
    from clients import deployed

    return {str(n): deployed(n, rounds) for n in CLIENTS}


PARTS: dict[str, Callable[[int], Points]] = {
    "sites": lambda rounds: {str(n): simulated(rounds, sites=n) for n in SITES},
    "frames": lambda rounds: {str(n): simulated(rounds, frames=n) for n in FRAMES},
    "parameters": against_parameters,
    "clients": against_clients,
}


def exponent(points: Points, cost: str) -> tuple[float, float, float]:
    """b of cost = a x^b, and its 95 % interval."""
    from scipy.stats import linregress, t

    x, y = zip(
        *((math.log(float(n)), math.log(max(point[cost], 1e-9))) for n, point in points.items()), strict=True
    )
    fit = linregress(x, y)
    half = float(t.ppf(0.975, len(x) - 2) * fit.stderr)
    return round(float(fit.slope), 3), round(float(fit.slope) - half, 3), round(float(fit.slope) + half, 3)


def picture(found: Mapping[str, Points]) -> str:
    """All curves, as SVG: a row a cost, a column a part."""
    from matplotlib.figure import Figure

    from common.report import charts

    with charts._style():
        figure = Figure(figsize=(3.0 * len(found), 2.6 * len(COSTS)), layout="constrained")
        for column, (part, points) in enumerate(found.items()):
            for row, (cost, label) in enumerate(COSTS.items()):
                axes = figure.add_subplot(len(COSTS), len(found), row * len(found) + column + 1)
                x, y = [float(n) for n in points], [point[cost] for point in points.values()]
                axes.loglog(x, y, "o-", color=charts.FEDERATED)
                b, low, high = exponent(points, cost)
                axes.set_title(f"exponent {b:.2f} ({low:.2f} to {high:.2f})", fontsize=9)
                axes.set_xlabel(part)
                axes.set_ylabel(label, fontsize=8)
        return charts._svg(figure, "what a round costs")


def main() -> None:
    """Measure, fit, show."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--plot", type=Path, help="where the curves go, as SVG")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    found = {part: PARTS[part](asked.rounds) for part in asked.parts}
    fits = {part: {cost: exponent(points, cost) for cost in COSTS} for part, points in found.items()}
    if asked.plot:
        asked.plot.write_text(picture(found))
    if asked.json:
        print(json.dumps({part: {"points": found[part], "exponents": fits[part]} for part in found}))
        return
    for part, points in found.items():
        for n, point in points.items():
            print(f"{part} {n:>8}", "  ".join(f"{name} {value:.4g}" for name, value in point.items()))
        print(part, "exponents", fits[part])


if __name__ == "__main__":
    main()
