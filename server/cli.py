"""`pneumofed server …`: the coordinator's commands."""

import json
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from common.audit_commands import audit_commands
from common.text import quoted

if TYPE_CHECKING:
    from server.settings import ServerFolder

app = typer.Typer(
    help="The coordinator: run the server, admit hospitals, start and resume runs.", no_args_is_help=True
)

CaKey = Annotated[
    Path | None,
    typer.Option("--ca-key", help="The CA's key, where it is kept offline.", show_default="DIR/ca.key"),
]
Dir = Annotated[Path, typer.Option("--dir", help="The server's folder.", envvar="PNEUMOFED_SERVER_DIR")]
HERE = Path()


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="New folder for keys, settings and runs.")],
    host: Annotated[str, typer.Option(help="Name or address by which hospitals reach the server.")],
    port: Annotated[int, typer.Option(min=1, max=65535)] = 443,
) -> None:
    """Make the CA, the server's certificate and the settings."""
    from common.config import validate
    from common.credentials import read_certificate, sha256_fingerprint
    from server.journal import note
    from server.provision import init_server
    from server.settings import ServerFolder, ServerSettings

    place = ServerFolder(folder)
    init_server(place, validate({"host": host, "port": port}, ServerSettings, "server init"))
    note(place, "made", host=host)
    typer.echo(
        f"Server for {host}:{port} in {folder}. Keep {place.ca_key} safe: who has it can admit hospitals."
    )
    typer.echo(
        f"Give every hospital {place.ca_certificate} and, on another way (telephone), its SHA-256 "
        "fingerprint:"
    )
    typer.echo(f"  {sha256_fingerprint(read_certificate(place.ca_certificate))}")
    typer.echo(f"Next: pneumofed server up --dir {quoted(folder)}")


@app.command()
def up(dir_: Dir = HERE) -> None:
    """Run the server until it is told to end (Ctrl-C, SIGTERM)."""
    from server.serve import serve
    from server.settings import ServerFolder

    serve(ServerFolder(dir_))


@app.command()
def check(dir_: Dir = HERE, as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """Test this server and say in plain words what is wrong and what to do."""
    from common.checkup import show
    from server.check import check_server
    from server.settings import ServerFolder

    show(check_server(ServerFolder(dir_)), as_json=as_json)


@app.command()
def admit(
    name: Annotated[str, typer.Argument(help="The hospital's name in the federation, for example st-mary.")],
    request: Annotated[Path, typer.Argument(help="The request.pem that the hospital sent.")],
    ca_key: CaKey = None,
    dir_: Dir = HERE,
) -> None:
    """Sign a hospital's certificate and allow its key."""
    from common.credentials import read_certificate, sha256_fingerprint
    from server.journal import note
    from server.provision import admit as admit_site
    from server.provision import came_back
    from server.settings import ServerFolder

    folder = ServerFolder(dir_)
    folder.settings()
    certificate = admit_site(folder, name, request, ca_key)
    note(folder, "admitted", site=name, key=sha256_fingerprint(read_certificate(certificate)))
    if before := came_back(folder, name):
        typer.echo(
            f"{name} was revoked on {before}; this is another key: ask the hospital by telephone whose it is."
        )
    typer.echo(f"{name} is admitted. Send {certificate} back to the hospital (it holds no secret).")


@app.command()
def revoke(name: str, dir_: Dir = HERE) -> None:
    """Take a hospital's admission back; effective at once."""
    from server.journal import note
    from server.provision import revoke as revoke_site
    from server.settings import ServerFolder

    folder = ServerFolder(dir_)
    folder.settings()
    revoke_site(folder, name)
    note(folder, "revoked", site=name)
    typer.echo(f"{name} is revoked: its next request is refused.")


class Renewed(StrEnum):
    """What can be renewed."""

    SERVER = "server"
    SIGNING = "signing"
    SITES = "sites"
    CA = "ca"


@app.command()
def renew(
    what: Annotated[
        Renewed,
        typer.Argument(help="The server's certificate, the signing key, the sites' certificates, or the CA."),
    ],
    revoke_old: Annotated[
        bool, typer.Option("--revoke", help="signing: models that the old key signed count no more.")
    ] = False,
    without: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="server: leave a site behind that knows the old CA alone."),
    ] = None,
    ca_key: CaKey = None,
    dir_: Dir = HERE,
) -> None:
    """Renew a certificate or the CA, while the server runs; agents take up what is theirs by themselves."""
    from server import renewal
    from server.journal import note
    from server.rollover import renew_ca
    from server.settings import ServerFolder

    folder = ServerFolder(dir_)
    folder.settings()
    note(folder, "renews", what=what.value, revoke_old=int(revoke_old))
    if what is Renewed.SERVER:
        renewal.renew_server(folder, ca_key, without=frozenset(without or ()))
        typer.echo(f"{folder.certificate} is renewed; a server that runs takes it up within seconds.")
    elif what is Renewed.SIGNING:
        renewal.renew_signing(folder, ca_key, revoke=revoke_old)
        typer.echo(f"{folder.signing} is renewed; models that are exported from now on are signed with it.")
    elif what is Renewed.SITES:
        names = renewal.renew_sites(folder, ca_key)
        typer.echo(f"Renewed for {', '.join(names) or 'no site'}; their agents fetch them by themselves.")
    else:
        names = renew_ca(folder, ca_key)
        typer.echo(f"A new CA is there, and told to {', '.join(names) or 'no site'} by the old one.")
        typer.echo("Give new hospitals ca.crt again. When every agent has run: pneumofed server renew server")


@app.command()
def sites(dir_: Dir = HERE, as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """The hospitals that were admitted, and which of them are connected."""
    from common.errors import RunError
    from server.ask import ask_status
    from server.provision import read_sites
    from server.settings import ServerFolder

    folder = ServerFolder(dir_)
    folder.settings()
    try:
        connected: Sequence[str] | None = ask_status(folder).connected
    except RunError:
        connected = None  # the server is not running; who is admitted is known all the same
    entries = read_sites(folder.sites)
    rows = [
        {"site": e.name, "state": _state(e.name, e.revoked, connected), "admitted": e.admitted}
        for e in entries
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    if not rows:
        typer.echo("No site is admitted yet. Admit one with: pneumofed server admit NAME REQUEST")
    for row in rows:
        typer.echo(f"{row['site']:<24} {row['state']:<14} admitted {row['admitted']}")


def _state(name: str, revoked: str | None, connected: Sequence[str] | None) -> str:
    if revoked:
        return "revoked"
    if connected is None:
        return "admitted"
    return "connected" if name in connected else "not connected"


Without = Annotated[
    list[str] | None, typer.Option("--without", metavar="NAME", help="A site that is left out; repeatable.")
]
Sites = Annotated[
    int | None,
    typer.Option("--sites", min=1, help="Sites to wait for.", show_default="all that are admitted"),
]


@app.command()
def run(
    plan: Path,
    *,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override one value of the plan.")
    ] = None,
    at_least: Sites = None,
    without: Without = None,
    first: Annotated[bool, typer.Option("--first", help="Before all runs that are queued.")] = False,
    pretrained: Annotated[
        Path | None,
        typer.Option(
            help="The file, or the handed-over model's folder, that the plan's model.pretrained names."
        ),
    ] = None,
    dir_: Dir = HERE,
) -> None:
    """Start a run, or queue it behind the one that is going on. Sites that have not approved the plan are
    shown it first."""
    from common.config import load_yaml
    from common.plan import Plan
    from server.ask import ask
    from server.journal import note
    from server.settings import ServerFolder
    from server.strategies import build_strategy

    given = load_yaml(plan, Plan, set_ or ())
    build_strategy(given)  # its options are refused here, by name
    body = {
        "plan": given.model_dump(mode="json"),
        "wish": {"sites": at_least, "without": without or [], "first": first},
        "pretrained": str(pretrained.resolve()) if pretrained else None,
    }
    folder = ServerFolder(dir_)
    answer = ask(folder, "/run", body)
    note(folder, "runs", run=str(answer["run"]), plan=given.sha256)
    _say_begun(answer, f"is started, plan {given.sha256[:12]}")


def _say_begun(answer: dict[str, object], what: str) -> None:
    if answer["place"]:
        what = f"is queued, number {answer['place']}: it begins by itself"
    typer.echo(f"Run {answer['run']} {what}. Follow it with: pneumofed server status --watch")


@app.command()
def status(
    watch: Annotated[bool, typer.Option("--watch", help="Draw it again every two seconds.")] = False,
    as_json: Annotated[bool, typer.Option("--json")] = False,
    dir_: Dir = HERE,
) -> None:
    """What the server and each site are doing, and the runs in the server's folder."""
    from common.results.form import to_text
    from server.ask import ask_status
    from server.settings import ServerFolder
    from server.status import follow, lines_of

    folder = ServerFolder(dir_)
    if as_json:
        typer.echo(to_text(ask_status(folder)), nl=False)
    elif watch:
        follow(folder)
    else:
        typer.echo("\n".join(lines_of(folder, ask_status(folder))))


@app.command()
def runs(dir_: Dir = HERE, as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """All runs, with those that are queued in their order; also while no server is running."""
    from server.settings import ServerFolder
    from server.status import run_lines, states_of

    folder = ServerFolder(dir_)
    folder.settings()
    states = states_of(folder)
    if as_json:
        from common.results.form import to_tree

        typer.echo(json.dumps({name: to_tree(state) for name, state in states.items()}, indent=2))
    else:
        typer.echo("\n".join(run_lines(states)) or "No run yet. Start one with: pneumofed server run PLAN")


@app.command()
def survey(run: str, dir_: Dir = HERE, as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """What the sites of a run say of their patients, pooled. It is there from when the first site is in,
    before round 1."""
    from common.errors import RunError
    from common.results.form import to_text
    from common.results.survey import FILE, read_survey
    from server.settings import ServerFolder
    from server.survey import table

    folder = ServerFolder(dir_)
    folder.settings()
    if "/" in run or not (folder.runs / run / FILE).is_file():
        raise RunError(f"{run}: no site of such a run has answered yet; see: pneumofed server status")
    answers = read_survey(folder.runs / run)
    typer.echo(to_text(answers) if as_json else "\n".join(table(answers)))


@app.command()
def report(run: str, dir_: Dir = HERE, as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """What each hospital gained in a finished run, as the hospitals told it (evaluation.final), and the
    page."""
    from common.report.summary import print_run
    from common.results.form import to_text
    from server.report import write_report
    from server.settings import ServerFolder

    folder = ServerFolder(dir_)
    folder.settings()
    result = write_report(folder.runs, run)
    if as_json:
        typer.echo(to_text(result), nl=False)
    else:
        print_run(result, folder.runs / run)


@app.command()
def dossier(
    run: Annotated[str, typer.Argument(help="A finished run's name, or the folder of a simulated run.")],
    out: Annotated[Path | None, typer.Option(help="New folder.", show_default="RUN-dossier")] = None,
    dir_: Dir = HERE,
) -> None:
    """What a review board asks for (TRIPOD+AI, CLAIM, model facts, DPIA, AI Act Annex IV), filled from the
    run; what only people know is marked."""
    from server.dossier.write import write_dossier
    from server.settings import ServerFolder

    place = _run_folder(run, ServerFolder(dir_))
    target = out or Path(f"{place.name}-dossier")
    for part in write_dossier(place, target):
        typer.echo(f"{part.checklist.title}: {part.n_blank} of {len(part.answers)} points are left to you")
    typer.echo(f"{target}: dossier.html to read and print, dossier.md to go on with")


@app.command()
def stop(dir_: Dir = HERE) -> None:
    """Stop the run that is going on; it can be resumed. The next that is queued begins."""
    from server.ask import ask
    from server.journal import note
    from server.settings import ServerFolder

    folder = ServerFolder(dir_)
    name = str(ask(folder, "/stop", {})["run"])
    note(folder, "stops", run=name)
    typer.echo(f"{name} is stopped. Go on with: pneumofed server resume {name}")


@app.command()
def cancel(run: str, dir_: Dir = HERE) -> None:
    """A run that is queued, going on, stopped or failed: it never goes on. Its files stay."""
    from server.ask import ask
    from server.journal import note
    from server.settings import ServerFolder

    folder = ServerFolder(dir_)
    ask(folder, "/cancel", {"run": run})
    note(folder, "cancels", run=run)
    typer.echo(f"{run} is cancelled; its files stay in {folder.runs / run}")


@app.command()
def resume(
    run: str,
    at_least: Sites = None,
    without: Without = None,
    dir_: Dir = HERE,
) -> None:
    """Go on with a run from its last finished round: with the sites that it had, or with others. One that was
    revoked is not waited for."""
    from server.ask import ask
    from server.journal import note
    from server.settings import ServerFolder

    folder = ServerFolder(dir_)
    answer = ask(folder, "/resume", {"run": run, "wish": {"sites": at_least, "without": without or []}})
    note(folder, "resumes", run=run)
    _say_begun(answer, "goes on")


def _audit_log(dir_: Path) -> Path:
    from server.settings import ServerFolder

    folder = ServerFolder(dir_)
    folder.settings()
    return folder.audit


app.add_typer(
    audit_commands("What was done here, and by whom: audit.log.", "PNEUMOFED_SERVER_DIR", _audit_log),
    name="audit",
)


def _run_folder(run: str, folder: "ServerFolder") -> Path:
    """Of a run of this server by its name, or of a simulated one by its path."""
    here = folder.runs / run
    return here if "/" not in run and folder.settings_file.is_file() and here.is_dir() else Path(run)


@app.command()
def export(
    run: Annotated[str, typer.Argument(help="A finished run's name, or the folder of a simulated run.")],
    out: Annotated[
        Path | None, typer.Option(help="New folder to hand over.", show_default="RUN-model")
    ] = None,
    dir_: Dir = HERE,
) -> None:
    """Hand a trained model over: weights, plan, ONNX, and a card that is signed with the server's key."""
    from common.handover import MODEL, sha256_of
    from server.export import export_run
    from server.journal import note
    from server.settings import ServerFolder

    folder = ServerFolder(dir_)
    signer = folder if folder.settings_file.is_file() else None
    if signer is not None:
        folder.settings()  # refuses keys that others can read
    place = _run_folder(run, folder)
    target = export_run(place, out or Path(f"{place.name}-model"), signer)
    if signer is not None:
        note(signer, "exports", run=place.name, model=sha256_of(target / MODEL))
    typer.echo(f"{target}: {', '.join(sorted(p.name for p in target.iterdir()))}")
    typer.echo(
        "Signed; who gets it checks with: pneumofed client verify DIR --ca ca.crt"
        if signer
        else "Not signed: --dir is no server."
    )
