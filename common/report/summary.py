"""What a finished run says at its end, in a few lines; the report has the rest."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from common.report.template import interval, number
from common.results.run import RunResult, Scores


def print_run(result: RunResult, out: Path) -> None:
    """The hospitals' numbers, the arms', and where the report is."""
    console, test = Console(highlight=False), result.test
    console.print(_by_hospital(result))
    if test.local_only and test.federated.mean:
        there, alone = number(test.federated.mean.auroc), number(test.local_only.mean.auroc)
        console.print(f"mean of hospitals, own test patients: federated {there}, alone {alone}")
    console.print(f"federated, all hospitals: {_auroc(test.federated)}")
    if test.centralised:
        console.print(f"centralised:              {_auroc(test.centralised)}")
    if result.skipped:
        reasons = ", ".join(f"{reason.replace('_', ' ')} {n}" for reason, n in result.skipped.items())
        console.print(f"left out: {reasons}")
    console.print(f"{result.timing.total_s:.0f} s; report: {out / 'report.html'}", soft_wrap=True)


def _by_hospital(result: RunResult) -> Table:
    table = Table(title=f"{result.name}: AUROC on test patients (95 % interval)", title_justify="left")
    for column in ("hospital", "patients", "tested on", "alone", "federated", "gain (95 %)"):
        table.add_column(column, justify="left" if column == "hospital" else "right")
    for name, site in result.sites.items():
        alone = _auroc(site.local_only) if site.local_only else "n/a"
        gain = f"{number(site.gain.value, '+.3f')} ({interval(site.gain.ci) or 'n/a'})" if site.gain else ""
        table.add_row(
            name,
            "–" if site.n_patients is None else str(site.n_patients),
            str(site.federated.n_patients),
            alone,
            _auroc(site.federated),
            gain,
        )
    return table


def _auroc(scores: Scores) -> str:
    ends = interval(scores.auroc_ci)
    return number(scores.auroc) + (f" ({ends.replace(' – ', '–')})" if ends else "")
