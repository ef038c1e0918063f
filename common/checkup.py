"""A self-test's lines: what works, what does not, and what to do; for a person and as JSON."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

import typer

Outcome = Literal["ok", "note", "fails"]


@dataclass(frozen=True)
class Finding:
    """One line of a self-test."""

    outcome: Outcome
    what: str
    text: str


def show(found: Iterable[Finding], *, as_json: bool) -> None:
    """Print them, as they come where a person reads. Exits with 2 if one fails."""
    findings = []
    for finding in found:
        findings.append(finding)
        if not as_json:
            typer.echo(f"{finding.outcome:<6} {finding.what:<12} {finding.text}")
    if as_json:
        typer.echo(json.dumps([asdict(f) for f in findings], indent=2))
    if any(f.outcome == "fails" for f in findings):
        raise typer.Exit(2)
