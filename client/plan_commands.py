"""The commands with which a person decides about plans, and sees what they cost."""

import datetime
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from client import peers
from client.options import HERE, Dir, site_at
from common.errors import ConfigError, DataError, RefusedError
from common.text import printable

if TYPE_CHECKING:
    from client.governance.approval import Approvals
    from common.plan import Plan

SHOWN = 2000  # characters of one line of a plan


def pending(dir_: Dir = HERE) -> None:
    """Plans that await a decision, and what they would change."""
    approvals = _approvals(dir_)
    waiting = approvals.pending()
    if not waiting:
        typer.echo("No plan awaits a decision.")
    for sha256 in waiting:
        try:
            _show(dir_, sha256)
        except ConfigError as e:  # its file was changed: others are to be seen too
            typer.echo(f"{sha256}: {printable(str(e), SHOWN)}\n")
            continue
        typer.echo(f"  pneumofed client approve {sha256[:12]}   or   pneumofed client deny {sha256[:12]}\n")


def _show(dir_: Path, sha256: str) -> None:
    from client.forecast import forecast
    from common.config import dump_yaml

    approvals, folder = _approvals(dir_), site_at(dir_)
    plan = approvals.plan(sha256)
    typer.echo(f"{printable(plan.name)}  {sha256}")
    if unread := approvals.unread(sha256):
        typer.echo(f"  {unread}")
    before, changes = approvals.compare(sha256)
    decision = approvals.decision(sha256)
    if decision and decision.approved:
        typer.echo(f"  The same plan as {printable(decision.by)} approved on {printable(decision.at[:10])}.")
        if approvals.awaits_again(sha256):
            typer.echo("  The runs that were approved are done: the coordinator asks for one more.")
    elif before is None:
        typer.echo("  No plan was approved before. The whole of it:")
        for line in dump_yaml(plan).split("\n")[:-1]:
            typer.echo(f"    {printable(line, SHOWN)}")
    else:
        typer.echo(f"  Against the plan approved before ({before[:12]}):")
        for change in changes:
            typer.echo(f"    {printable(change, SHOWN)}")
    for objection in folder.settings().policy.objections(plan):
        typer.echo(f"  Against this site's policy: {printable(objection, SHOWN)}")
    if plan.privacy is not None and plan.privacy.threshold:
        typer.echo(
            "  Privacy: after the last round noisy counts of validation patients leave (privacy.threshold)."
        )
    try:
        if expected := forecast(folder, plan):
            typer.echo(f"  Privacy: a run {expected}")
    except (RefusedError, DataError) as e:  # of this plan: others are to be seen too
        typer.echo(f"  Privacy: it cannot be trained here: {e}")


def approve(
    plan: Annotated[str, typer.Argument(help="The plan's hash, or its beginning.")],
    runs: Annotated[int, typer.Option(min=1, max=1000, help="How many runs, or how many more.")] = 1,
    until: Annotated[
        datetime.datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The last day on which it holds.")
    ] = None,
    dir_: Dir = HERE,
) -> None:
    """Allow a run of a plan (or one more)."""
    from client.forecast import forecast

    approvals, folder = _approvals(dir_), site_at(dir_)
    sha256 = approvals.find(plan)
    agreed = approvals.plan(sha256)
    if objections := folder.settings().policy.objections(agreed):
        raise ConfigError(
            f"{sha256[:12]}: against this site's policy: {'; '.join(objections)}; change hospital.yaml first"
        )
    if unsafe := peers.objection(folder, agreed):
        raise ConfigError(f"{sha256[:12]}: {unsafe}")
    _show(dir_, sha256)
    expected = forecast(folder, agreed, runs)
    if expected is not None and expected.too_much:
        raise ConfigError(
            f"{sha256[:12]}: {expected}: approve fewer runs, ask for a plan that costs less, or raise "
            "epsilon in hospital.yaml"
        )
    decision = approvals.approve(sha256, runs, until.date() if until else None)
    last = f", until {decision.until}" if decision.until else ""
    typer.echo(f"Approved by {decision.by} for {decision.runs} run{'s' * (decision.runs != 1)} in all{last}.")
    if not folder.cohort(agreed).is_dir():
        typer.echo(f"There is no cohort for it yet: pneumofed client ingest {sha256[:12]}")


def deny(
    plan: Annotated[str, typer.Argument(help="The plan's hash, or its beginning.")], dir_: Dir = HERE
) -> None:
    """Refuse a plan, or take an approval back; effective at once."""
    approvals = _approvals(dir_)
    sha256 = approvals.find(plan)
    approvals.deny(sha256)
    typer.echo(f"{sha256[:12]} is denied.")


def ledger(dir_: Dir = HERE, as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """What was spent of the privacy budget, what is reserved, and what is left."""
    from client.governance.ledger import Budget, summary
    from client.governance.witness import known_ledger

    folder = site_at(dir_)
    policy = folder.settings().policy
    account = summary(known_ledger(folder.ledger, folder.audit), Budget(policy.epsilon, policy.delta))
    if as_json:
        typer.echo(json.dumps(asdict(account), indent=2))
        return
    typer.echo(
        f"The patient for whom it is most: epsilon {account.epsilon_spent:.3f} spent or reserved, "
        f"{account.epsilon_left:.3f} left of {policy.epsilon:g}"
    )
    typer.echo(f"(at delta {policy.delta:g}; {account.entries} entries, the chain is whole)")
    for run in account.runs:
        steps = f"{run.settled_steps} steps, {run.reserved_steps} more reserved"
        typer.echo(
            f"  plan {run.plan[:12]} run {run.run[:12]}: {run.rounds} rounds, {steps}; "
            f"alone epsilon {run.epsilon:.3f}"
        )


def given_plan(plan: str, dir_: Path) -> "Plan":
    """Of a file, or that was proposed, by its hash or the beginning of it."""
    from common.config import load_yaml
    from common.plan import Plan

    approvals = _approvals(dir_)
    return load_yaml(Path(plan), Plan) if Path(plan).is_file() else approvals.plan(approvals.find(plan))


def _approvals(dir_: Path) -> "Approvals":
    from client.governance.approval import Approvals

    return Approvals(site_at(dir_).plans)


COMMANDS = (pending, approve, deny, ledger)
