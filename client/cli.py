"""`pneumofed client …`: the hospital's commands."""

import datetime
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from client import peers
from client.prediction import cli as prediction_cli
from common.audit_commands import audit_commands
from common.text import printable, quoted

SHOWN = 2000  # characters of one line of a plan
TOLD_EVERY_S = 10.0
INGESTING = "An ingest is going on: what it writes is looked through when it ends."

if TYPE_CHECKING:
    from client.governance.approval import Approvals
    from client.imaging.quality import Doubt, Quality
    from client.settings import SiteFolder
    from common.plan import Plan

app = typer.Typer(
    help="The hospital: join a federation, decide about plans, train beside the PACS.", no_args_is_help=True
)


def _audit_log(dir_: Path) -> Path:
    from client.settings import SiteFolder

    folder = SiteFolder(dir_)
    folder.settings()
    return folder.audit


app.add_typer(
    audit_commands("What came in, what was decided, and what left.", "PNEUMOFED_CLIENT_DIR", _audit_log),
    name="audit",
)
app.add_typer(peers.app, name="peers")
for command in (
    prediction_cli.predict,
    prediction_cli.explain,
    prediction_cli.read,
    prediction_cli.gain,
    prediction_cli.verify,
):
    app.command()(command)

Dir = Annotated[Path, typer.Option("--dir", help="The site's folder.", envvar="PNEUMOFED_CLIENT_DIR")]
HERE = Path()


@app.command()
def init(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="New folder for keys, settings, cohorts and the audit log.")
    ],
    server: Annotated[str, typer.Option(help="HOST:PORT of the federation's server.")],
    ca: Annotated[Path, typer.Option(help="The CA certificate that the coordinator gave.")],
    proxy: Annotated[str | None, typer.Option(help="The hospital's forward proxy, http://HOST:PORT.")] = None,
) -> None:
    """Make this site's keys and the request to hand over."""
    from client.provision import init_site
    from client.settings import Hospital, SiteFolder
    from common.config import validate
    from common.credentials import read_certificate, sha256_fingerprint

    place = SiteFolder(folder)
    init_site(place, validate({"server": server, "proxy": proxy}, Hospital, "client init"), ca)
    typer.echo(f"The site's folder is {folder}. Its private keys stay there; nobody else needs them.")
    typer.echo("Compare the CA's SHA-256 fingerprint with the coordinator's, by telephone:")
    typer.echo(f"  {sha256_fingerprint(read_certificate(place.ca))}")
    typer.echo(
        f"Send {place.request} to the coordinator. With the answer: pneumofed client join FILE --dir "
        f"{quoted(folder)}"
    )


@app.command()
def join(
    certificate: Annotated[Path, typer.Argument(help="The certificate that the coordinator sent.")],
    dir_: Dir = HERE,
) -> None:
    """Take in the coordinator's answer."""
    from client.provision import join as take_in
    from client.settings import SiteFolder
    from common.credentials import common_name, read_certificate

    folder = SiteFolder(dir_)
    folder.settings()
    take_in(folder, certificate)
    typer.echo(
        f"This site is {common_name(read_certificate(folder.certificate))}. Next: pneumofed client check "
        f"--dir {quoted(dir_)}"
    )


@app.command()
def rekey(dir_: Dir = HERE) -> None:
    """Make a new key for this site, which keeps its pseudonyms, splits, approvals and ledger."""
    from client.provision import new_key
    from client.settings import SiteFolder

    place = SiteFolder(dir_)
    place.settings()
    new_key(place)
    typer.echo(
        f"Send {place.request} to the coordinator, who runs: pneumofed server revoke NAME, and then admit."
    )
    typer.echo(
        f"With the answer: pneumofed client join FILE --dir {quoted(dir_)}, and start the agent again."
    )


@app.command()
def check(dir_: Dir = HERE, as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """Test this site and say in plain words what is wrong and what to do."""
    from client.check import check_site
    from client.settings import SiteFolder
    from common.checkup import show

    show(check_site(SiteFolder(dir_)), as_json=as_json)


@app.command()
def up(dir_: Dir = HERE) -> None:
    """Run the site's agent until it is told to end (Ctrl-C, SIGTERM)."""
    from client.agent import serve

    serve(dir_)


@app.command()
def pending(dir_: Dir = HERE) -> None:
    """Plans that await a decision, and what they would change."""
    from common.errors import ConfigError

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
    from client.settings import SiteFolder
    from common.config import dump_yaml
    from common.errors import DataError, RefusedError

    approvals = _approvals(dir_)
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
    for objection in SiteFolder(dir_).settings().policy.objections(plan):
        typer.echo(f"  Against this site's policy: {printable(objection, SHOWN)}")
    if plan.privacy is not None and plan.privacy.threshold:
        typer.echo(
            "  Privacy: after the last round noisy counts of validation patients leave (privacy.threshold)."
        )
    try:
        if expected := forecast(SiteFolder(dir_), plan):
            typer.echo(f"  Privacy: a run {expected}")
    except (RefusedError, DataError) as e:  # of this plan: others are to be seen too
        typer.echo(f"  Privacy: it cannot be trained here: {e}")


@app.command()
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
    from client.settings import SiteFolder
    from common.errors import ConfigError

    approvals = _approvals(dir_)
    sha256 = approvals.find(plan)
    objections = SiteFolder(dir_).settings().policy.objections(approvals.plan(sha256))
    if objections:
        raise ConfigError(
            f"{sha256[:12]}: against this site's policy: {'; '.join(objections)}; change hospital.yaml first"
        )
    if unsafe := peers.objection(SiteFolder(dir_), approvals.plan(sha256)):
        raise ConfigError(f"{sha256[:12]}: {unsafe}")
    _show(dir_, sha256)
    expected = forecast(SiteFolder(dir_), approvals.plan(sha256), runs)
    if expected is not None and expected.too_much:
        raise ConfigError(
            f"{sha256[:12]}: {expected}: approve fewer runs, ask for a plan that costs less, or raise "
            "epsilon in hospital.yaml"
        )
    decision = approvals.approve(sha256, runs, until.date() if until else None)
    last = f", until {decision.until}" if decision.until else ""
    typer.echo(f"Approved by {decision.by} for {decision.runs} run{'s' * (decision.runs != 1)} in all{last}.")
    cohort = SiteFolder(dir_).cohort(approvals.plan(sha256))
    if not cohort.is_dir():
        typer.echo(f"There is no cohort for it yet: pneumofed client ingest {sha256[:12]}")


@app.command()
def deny(
    plan: Annotated[str, typer.Argument(help="The plan's hash, or its beginning.")], dir_: Dir = HERE
) -> None:
    """Refuse a plan, or take an approval back; effective at once."""
    approvals = _approvals(dir_)
    sha256 = approvals.find(plan)
    approvals.deny(sha256)
    typer.echo(f"{sha256[:12]} is denied.")


@app.command()
def ingest(
    plan: Annotated[str, typer.Argument(help="The plan's hash or its beginning, or a plan file.")],
    dir_: Dir = HERE,
    model: Annotated[
        Path | None, typer.Option(help="A model's folder: the page shows the labels that it doubts.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what the cohort is like as JSON.")] = False,
) -> None:
    """Read the hospital's images into a cohort for a plan's input contract, and say what it is like."""
    from client.imaging.cohort import Cohort
    from client.imaging.quality import describe, render_page
    from client.ingest import ingest_site
    from client.settings import SiteFolder
    from common.files import write_atomically
    from common.progress import reporting

    folder, given = SiteFolder(dir_), _given_plan(plan, dir_)
    with reporting():
        place = ingest_site(folder, given)
    cohort = Cohort.open(place)
    cohort_quality = describe(cohort, given)
    page = place.with_name(f"{place.name}.html")
    doubted = _doubts(folder, place, model) if model else None
    write_atomically(page, render_page(cohort_quality, cohort, given.name, doubts=doubted).encode())
    typer.echo(
        json.dumps(asdict(cohort_quality), indent=2)
        if as_json
        else _quality_summary(cohort_quality, place, page)
    )


def _doubts(folder: "SiteFolder", place: Path, model: Path) -> "list[Doubt]":
    from client.compute.device import choose_device, set_up_process
    from client.prediction.doubts import doubts
    from common.handover import read_model

    set_up_process()
    return doubts(read_model(model), place, folder, choose_device(folder.settings().device))


def _quality_summary(quality: "Quality", place: Path, page: Path) -> str:
    lines = [f"{quality.sequences} sequences, {quality.images} images in {place}"]
    lines += [f"  left out, {row.words}: {row.count} {row.of}" for row in quality.left_out]
    lines += [f"  used, look at them: {row.words}: {row.count}" for row in quality.notes]
    if shared := quality.same_pixels_under_two_patients:
        lines.append(f"  look at them: {shared} images with the same pixels under two patients")
    if quality.removed:
        names = sorted(quality.removed, key=quality.removed.__getitem__, reverse=True)
        lines.append(
            f"  left behind at the door: "
            f"{', '.join(names[:6])}{f' and {len(names) - 6} more' if len(names) > 6 else ''}"
        )
    lines.append(quality.verdict.line)
    return "\n".join([*lines, f"What it is like, with pictures: {page}"])


@app.command()
def pull(
    plan: Annotated[str, typer.Argument(help="The plan's hash or its beginning, or a plan file.")],
    dir_: Dir = HERE,
) -> None:
    """Fetch the images that the labels are about from the PACS. What is there already is not fetched
    again."""
    from client.pacs.pull import TO_LOOK_AT, Outcome
    from client.pacs.site import pulling
    from client.settings import SiteFolder
    from common.progress import reporting

    folder = SiteFolder(dir_)
    given = _given_plan(plan, dir_)
    with reporting(), pulling(folder, given) as (work, wanted):
        for _ in work.run(wanted):
            pass
    for outcome in Outcome:
        typer.echo(f"{work.outcomes[outcome]:>6} {outcome.value}")
    if any(work.outcomes[one] for one in TO_LOOK_AT):
        typer.echo(f"Which, and why: {folder.logs / 'pull.log'}. Run this again to try them once more.")
        raise typer.Exit(1)  # `pull && ingest` must not go on with other images than the PACS has
    typer.echo(f"Next: pneumofed client ingest {quoted(plan)}")


@app.command()
def receive(dir_: Dir = HERE) -> None:
    """Take the images that the PACS pushes (C-STORE) until this is ended (Ctrl-C, SIGTERM)."""
    from client.pacs.site import receiving, told_to_end
    from client.settings import SiteFolder

    folder = SiteFolder(dir_)
    pacs = folder.settings().data.pacs
    with receiving(folder) as inbox:
        assert pacs is not None  # receiving said so
        typer.echo(
            f"Listening on {pacs.listen}:{pacs.own_port} as {pacs.own_title}, for {pacs.title} alone. Ctrl-C "
            "ends."
        )
        ended, told = told_to_end(), 0
        while not ended.wait(TOLD_EVERY_S):
            if inbox.pushed != told:
                told = inbox.pushed
                typer.echo(f"{told} images have come.")
    typer.echo(f"{inbox.pushed} images came.")


@app.command()
def forget(
    patient: Annotated[str, typer.Argument(help="Patient ID, as in the files.")], dir_: Dir = HERE
) -> None:
    """Remove a patient from everything that this site keeps for learning, for ever."""
    from client.forgetting import forget_patient
    from client.settings import SiteFolder
    from common.errors import DataError
    from common.progress import reporting

    with reporting():
        gone = forget_patient(SiteFolder(dir_), patient, lambda: typer.echo(INGESTING, err=True))
    if gone.nothing:
        raise DataError(
            "nothing of this patient was found here: is the Patient ID right? It is on the list all the "
            "same: later pulls, pushes and ingests leave it out"
        )
    typer.echo(
        f"Removed {gone.sequences} sequences with {gone.frames} images from {gone.cohorts} cohorts, and "
        "their pages."
    )
    typer.echo(
        f"Deleted {len(gone.files)} fetched files and {gone.lines} lines of logs. Later pulls, pushes and "
        "ingests leave the patient out."
    )
    if gone.elsewhere:
        still = (
            f"{len(gone.elsewhere)} files with this Patient ID are still in the folder that data.dicom names"
        )
        typer.echo(f"{still}, which pneumofed never changes.")
    if gone.named:
        typer.echo(f"Still in this site's folder, for you to remove or change: {_names(gone.named, dir_)}.")
    if gone.unread:
        typer.echo(f"Could not be looked into, and may be the patient's: {_names(gone.unread, dir_)}.")
    typer.echo("Backups and tables of labels are yours to change.")
    typer.echo("Models that were trained already are not changed: they cannot forget (docs/privacy.md).")


def _names(paths: list[Path], folder: Path) -> str:
    """Of the first eight."""
    more = f" and {len(paths) - 8} more" if len(paths) > 8 else ""
    shown = (path.relative_to(folder) if path.is_relative_to(folder) else path for path in paths[:8])
    return ", ".join(map(str, shown)) + more


@app.command()
def ledger(dir_: Dir = HERE, as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """What was spent of the privacy budget, what is reserved, and what is left."""
    from client.governance.ledger import Budget, summary
    from client.governance.witness import known_ledger
    from client.settings import SiteFolder

    folder = SiteFolder(dir_)
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


def _given_plan(plan: str, dir_: Path) -> "Plan":
    from common.config import load_yaml
    from common.plan import Plan

    approvals = _approvals(dir_)
    return load_yaml(Path(plan), Plan) if Path(plan).is_file() else approvals.plan(approvals.find(plan))


def _approvals(dir_: Path) -> "Approvals":
    from client.governance.approval import Approvals
    from client.settings import SiteFolder

    folder = SiteFolder(dir_)
    folder.settings()
    return Approvals(folder.plans)
