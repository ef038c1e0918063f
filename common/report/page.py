"""metrics and histories -> the report's HTML."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from common.config import dump_yaml
from common.plan import Plan
from common.report import charts
from common.results.rounds import History

TEMPLATE = Path(__file__).with_name("report.html.j2")
Histories = Mapping[str, History]


def render_report(plan: Plan, result: dict[str, Any], histories: Histories) -> str:
    """One self-contained page: no script, no font, no picture from elsewhere.

    Args:
        result: what metrics.json holds, undefined numbers as None.
        histories: arm -> the reports of its rounds.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "number": number, "interval": interval, "percent": percent, "bytes": human_bytes,
        "duration": duration,
        "p_value": p_value, "arm_name": arm_name, "mean": mean_known,
    }  # fmt: skip
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        plan=plan,
        plan_yaml=dump_yaml(plan),
        result=result,
        rounds=histories["federated"],
        verdicts=[(name, site["gain"]["advice"]) for name, site in result["sites"].items() if "gain" in site],
        curves=Markup(_curves(histories)),  # noqa: S704 - made by our own charts
        gains=Markup(_gains(result)),  # noqa: S704
        reliability=Markup(charts.reliability(result["calibration"])),  # noqa: S704
    )


def _curves(histories: Histories) -> str:
    local = [history for arm, history in histories.items() if arm.startswith("local-")]
    return charts.curves(
        _series(histories["federated"]),
        _series(histories.get("centralised", [])),
        _mean(local),
        "validation AUROC",
    )


def _series(history: History) -> charts.Series:
    points = []
    for report in history:
        if report.evaluation and math.isfinite(value := report.evaluation.auroc):
            error = report.evaluation.auroc_se
            spread = 1.96 * error if math.isfinite(error) else 0.0
            points.append((float(report.round), value, max(0.0, value - spread), min(1.0, value + spread)))
    return points


def _mean(histories: Sequence[History]) -> charts.Series:
    """The mean of independent series, where all of them have a value; errors add as squares."""
    by_round: dict[float, list[tuple[float, float]]] = {}
    for history in histories:
        for x, value, low, _ in _series(history):
            by_round.setdefault(x, []).append((value, (value - low) / 1.96))
    points = []
    for x, values in sorted(by_round.items()):
        if len(values) == len(histories):
            mean = sum(value for value, _ in values) / len(values)
            spread = 1.96 * sum(error**2 for _, error in values) ** 0.5 / len(values)
            points.append((x, mean, max(0.0, mean - spread), min(1.0, mean + spread)))
    return points


def _gains(result: dict[str, Any]) -> str:
    return charts.gains(
        [(name, site["federated"], site.get("local_only", {})) for name, site in result["sites"].items()]
    )


def number(value: float | None, digits: int = 3) -> str:
    """0.912, or n/a."""
    return "n/a" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def mean_known(values: Iterable[float]) -> float:
    """Of the numbers that are known; NaN if none is."""
    known = [value for value in values if math.isfinite(value)]
    return sum(known) / len(known) if known else math.nan


def interval(ends: list[float | None], digits: int = 3) -> str:
    """0.870 – 0.944, or nothing."""
    low, high = ends
    return "" if low is None or high is None else f"{low:.{digits}f} – {high:.{digits}f}"


def p_value(p: float | None) -> str:
    """0.031, < 0.001, or nothing."""
    return "" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def arm_name(arm: str) -> str:
    """`local-x` as people say it."""
    return f"{arm.removeprefix('local-')} alone" if arm.startswith("local-") else arm


def percent(value: float | None) -> str:
    """35 %, or n/a."""
    return "n/a" if value is None else f"{100 * value:.0f} %"


def human_bytes(n: float) -> str:
    """12.3 MB, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1000
    return f"{n:.1f} TB"


def duration(seconds: float) -> str:
    """45.0 s, 3.2 min or 2.5 h."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
