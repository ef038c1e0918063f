"""What a privacy audit says at its end, in a few lines; the report has the rest."""

import math
from pathlib import Path

from common.report.template import number
from common.results.attacks import CanaryAttack, PrivacyAudit


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
