"""`pneumofed client …`: the hospital's commands; those of its own folder are here."""

from pathlib import Path
from typing import Annotated

import typer

from client import data_commands, peers, plan_commands
from client.options import HERE, Dir, site_at
from client.prediction import cli as prediction_cli
from common.audit_commands import audit_commands
from common.text import quoted

app = typer.Typer(
    help="The hospital: join a federation, decide about plans, train beside the PACS.", no_args_is_help=True
)
app.add_typer(
    audit_commands(
        "What came in, what was decided, and what left.",
        "PNEUMOFED_CLIENT_DIR",
        lambda dir_: site_at(dir_).audit,
    ),
    name="audit",
)
app.add_typer(peers.app, name="peers")


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
    from common.credentials import common_name, read_certificate

    folder = site_at(dir_)
    take_in(folder, certificate)
    typer.echo(
        f"This site is {common_name(read_certificate(folder.certificate))}. Next: pneumofed client check "
        f"--dir {quoted(dir_)}"
    )


@app.command()
def rekey(dir_: Dir = HERE) -> None:
    """Make a new key for this site, which keeps its pseudonyms, splits, approvals and ledger."""
    from client.provision import new_key

    place = site_at(dir_)
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


for command in (*plan_commands.COMMANDS, *data_commands.COMMANDS, *prediction_cli.COMMANDS):
    app.command()(command)
