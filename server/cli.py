"""`pneumofed server …`: the coordinator's commands; those of the server itself are here."""

from pathlib import Path
from typing import Annotated

import typer

from common.audit_commands import audit_commands
from common.text import quoted
from server import run_commands, site_commands
from server.options import HERE, Dir, server_at

app = typer.Typer(
    help="The coordinator: run the server, admit hospitals, start and resume runs.", no_args_is_help=True
)
app.add_typer(
    audit_commands(
        "What was done here, and by whom: audit.log.",
        "PNEUMOFED_SERVER_DIR",
        lambda dir_: server_at(dir_).audit,
    ),
    name="audit",
)


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


for command in (*site_commands.COMMANDS, *run_commands.COMMANDS):
    app.command()(command)
