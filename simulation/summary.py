"""What the researcher's commands say at their end, in a few lines; the reports have the rest."""

import math
from pathlib import Path

from rich.console import Console
from rich.table import Table

from common.report.template import number
from common.results.attacks import CanaryAttack, PrivacyAudit
from common.results.run import RunResult, Scores


def print_run(result: RunResult, out: Path) -> None:
    """Of a simulated run."""
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
        table.add_row(name, str(site.n_patients), alone, _auroc(site.federated), gain)
    return table


def _auroc(scores: Scores) -> str:
    low, high = scores.auroc_ci
    return number(scores.auroc) + (f" ({low:.3f}–{high:.3f})" if math.isfinite(low) else "")


def audit_lines(audit: PrivacyAudit, folder: Path) -> str:
    """Of a privacy audit."""
    lines = [f"{audit.site}, plan {audit.plan}, delta {audit.delta:g}"]
    if audit.private:
        lines.append(_guessed("with", audit.private, f"at most {audit.epsilon_of_run:.3f}"))
    lines.append(_guessed("without", audit.plain, "no upper bound"))
    if audit.membership:
        auroc = number(audit.membership.auroc.value)
        lines.append(f"membership in the finished model: AUROC {auroc} (0.5 is a coin)")
    drawn = audit.inversion
    private = f", with privacy {drawn.private:.3f}" if math.isfinite(drawn.private) else ""
    lines.append(f"drawing a patient from one update, likeness: without privacy {drawn.plain:.3f}{private}")
    return "\n".join([*lines, f"report, which shows a patient's images: {folder / 'report.html'}"])


def _guessed(how: str, attack: CanaryAttack, most: str) -> str:
    return (
        f"{how} privacy: epsilon at least {attack.epsilon_at_least:.3f} "
        f"({attack.right} of {attack.guesses} guesses right), {most}"
    )
