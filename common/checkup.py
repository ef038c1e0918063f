"""A self-test's lines: what works, what does not, and what to do; for a person and as JSON."""

import json
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import typer

from common.text import cannot_be_read, quoted

Outcome = Literal["ok", "note", "fails"]
MIN_FREE_GB = 5.0


@dataclass(frozen=True)
class Finding:
    """One line of a self-test."""

    outcome: Outcome
    what: str
    text: str


def each(checks: Mapping[str, Callable[[], Iterable[Finding]]]) -> Iterator[Finding]:
    """What checks that need nothing of each other find. A file that one may not read is a finding of it, and
    the next one runs."""
    for what, check in checks.items():
        try:
            yield from check()
        except OSError as e:
            yield Finding("fails", what, cannot_be_read(e.filename or what, e))


def check_mode(folder: Path) -> Iterator[Finding]:
    """A finding if others can look inside."""
    if (mode := stat.S_IMODE(folder.stat().st_mode)) & 0o077:
        advice = f"its mode is {mode:o}, others can look inside; run: chmod 700 {quoted(folder)}"
        yield Finding("fails", "folder", f"{folder}: {advice}")


def check_disk(path: Path) -> Iterator[Finding]:
    """Whether there is room for runs and cohorts."""
    free = shutil.disk_usage(path).free / 1e9
    if free < MIN_FREE_GB:
        advice = f"{MIN_FREE_GB:.0f} GB or more are advisable"
        yield Finding("note", "disk", f"{free:.1f} GB free in {path}; {advice}")
    else:
        yield Finding("ok", "disk", f"{free:.0f} GB free in {path}")


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
