"""A run's result and histories -> the report: what did each hospital gain?"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from common.config import dump_yaml
from common.plan import Plan
from common.report import charts
from common.report.template import render
from common.results.rounds import History
from common.results.run import FindingDetail, RunResult, Scores

TEMPLATE = Path(__file__).with_name("report.html.j2")
Histories = Mapping[str, History]
"""Of each arm's rounds."""


def render_report(plan: Plan, result: RunResult, histories: Histories) -> str:
    """One self-contained page."""
    return render(
        TEMPLATE,
        plan=plan,
        plan_yaml=dump_yaml(plan),
        result=result,
        rounds=histories["federated"],
        advised={name: site for name, site in result.sites.items() if site.gain},
        curves=Markup(_curves(histories)),  # noqa: S704 - made by our own charts
        gains=Markup(charts.gains(result.sites)),  # noqa: S704
        findings=_findings(result),
    )


@dataclass(frozen=True)
class Finding:
    """What the page shows of one."""

    name: str
    scores: Scores
    detail: FindingDetail
    roc: Markup
    reliability: Markup


def _findings(result: RunResult) -> list[Finding]:
    """Each by itself. Runs of before told the first one's calibration and counts alone."""
    federated, first = result.test.federated, result.findings[0]
    c = result.confusion
    n_positive, n_negative = c.true_positive + c.false_negative, c.false_positive + c.true_negative
    known = result.details or {
        first: FindingDetail(
            n_positive=n_positive, n_negative=n_negative, confusion=c, calibration=result.calibration,
            curve=(), at_specificity=None,
        )
    }  # fmt: skip
    return [
        Finding(name, (federated.findings or {}).get(name, federated), one, _roc(name, one), _bins(name, one))
        for name, one in known.items()
    ]


def _roc(name: str, one: FindingDetail) -> Markup:
    if not one.curve:
        return Markup()
    return Markup(charts.roc(one.curve, one.confusion.threshold, name, one.at_specificity))  # noqa: S704 - made by our own charts


def _bins(name: str, one: FindingDetail) -> Markup:
    return Markup(charts.reliability(one.calibration, name))  # noqa: S704


def _curves(histories: Histories) -> str:
    """Nothing where no round has a value."""
    local = _mean([history for arm, history in histories.items() if arm.startswith("local-")])
    federated, centralised = (_series(histories.get(arm, [])) for arm in ("federated", "centralised"))
    if not (federated or centralised or local):
        return ""
    return charts.curves(federated, centralised, local, "validation AUROC")


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
