"""What a finished run says at its end, in a few lines; the report has the rest."""

import math
from pathlib import Path

from rich.console import Console
from rich.table import Table

from common.report.template import number
from common.results.run import RunResult, Scores


def print_run(result: RunResult, out: Path) -> None:
    """The hospitals' numbers, the arms', and where the report is."""
    console, test = Console(highlight=False), result.test
    console.print(_by_hospital(result))
    console.print(f"federated, all hospitals: {_auroc(test.federated)}")
    if test.local_only and test.federated.mean:
        there = number(test.federated.mean.auroc)
        console.print(
            f"alone, mean of hospitals: {number(test.local_only.mean.auroc)} (federated there {there})"
        )
    if test.centralised:
        console.print(f"centralised:              {_auroc(test.centralised)}")
    if result.skipped:
        reasons = ", ".join(f"{reason.replace('_', ' ')} {n}" for reason, n in result.skipped.items())
        console.print(f"left out: {reasons}")
    console.print(f"{result.timing.total_s:.0f} s; report: {out / 'report.html'}", soft_wrap=True)


def _by_hospital(result: RunResult) -> Table:
    table = Table(title=f"{result.name}: AUROC on test patients (95 % interval)", title_justify="left")
    for column in ("hospital", "patients", "alone", "federated", "gain"):
        table.add_column(column, justify="left" if column == "hospital" else "right")
    for name, site in result.sites.items():
        alone = _auroc(site.local_only) if site.local_only else "n/a"
        gain = number(site.gain.value, "+.3f") if site.gain else ""
        table.add_row(
            name,
            "–" if site.n_patients is None else str(site.n_patients),
            alone,
            _auroc(site.federated),
            gain,
        )
    return table


def _auroc(scores: Scores) -> str:
    low, high = scores.auroc_ci
    return number(scores.auroc) + (f" ({low:.3f}–{high:.3f})" if math.isfinite(low) else "")
