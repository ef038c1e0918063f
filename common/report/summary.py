"""What a finished run says at its end, in a few lines; the report has the rest."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from common.advice import what_would_settle
from common.report.template import interval, number
from common.results.run import RunResult, Scores


def print_run(result: RunResult, out: Path) -> None:
    """The hospitals' numbers, the arms', and where the report is."""
    console, test = Console(highlight=False), result.test
    console.print(_by_hospital(result))
    for name, site in result.sites.items():
        if site.gain and (more := what_would_settle(site.gain, site.federated.n_patients)):
            console.print(f"{name}: no sure difference; {more}", soft_wrap=True)
    if test.local_only and test.federated.mean:
        there, alone = number(test.federated.mean.auroc), number(test.local_only.mean.auroc)
        console.print(f"mean of hospitals, own test patients: federated {there}, alone {alone}")
    console.print(f"federated, all hospitals: {_auroc(test.federated)}")
    if test.centralised:
        console.print(f"centralised:              {_auroc(test.centralised)}")
    for name, why in (result.silent or {}).items():
        console.print(f"{name} told no final scores: {why}", markup=False, soft_wrap=True)
    for name, why in (result.not_crossed or {}).items():
        console.print(f"{name} took no part in judging others' models: {why}", markup=False, soft_wrap=True)
    if result.skipped:
        reasons = ", ".join(f"{reason.replace('_', ' ')} {n}" for reason, n in result.skipped.items())
        console.print(f"left out: {reasons}")
    console.print(f"{result.timing.total_s:.0f} s; report: {out / 'report.html'}", soft_wrap=True)


def _by_hospital(result: RunResult) -> Table:
    """Of eighty columns, where the hospitals' names are short."""
    table = Table(
        title=f"{result.name}: AUROC on test patients (95 % interval)",
        title_justify="left",
        box=None,
        padding=(0, 1, 0, 0),
    )
    for column in ("hospital", "tested", "alone", "federated", "gain"):
        table.add_column(
            column, justify="left" if column == "hospital" else "right", no_wrap=column != "hospital"
        )
    for name, site in result.sites.items():
        alone = _auroc(site.local_only) if site.local_only else "n/a"
        gain = ""
        if site.gain:
            low, high = (number(end, "+.2f") for end in site.gain.ci)
            gain = f"{number(site.gain.value, '+.2f')} ({low}..{high})"
        table.add_row(name, str(site.federated.n_patients), alone, _auroc(site.federated), gain)
    return table


def _auroc(scores: Scores) -> str:
    ends = interval(scores.auroc_ci)
    return number(scores.auroc) + (f" ({ends.replace(' – ', '–')})" if ends else "")
