"""The commands about hospitals: who takes part, and with which certificates."""

import json
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from common.errors import RunError
from server.options import HERE, Dir, server_at

CaKey = Annotated[
    Path | None,
    typer.Option("--ca-key", help="The CA's key, where it is kept offline.", show_default="DIR/ca.key"),
]


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

    folder = server_at(dir_)
    certificate = admit_site(folder, name, request, ca_key)
    note(folder, "admitted", site=name, key=sha256_fingerprint(read_certificate(certificate)))
    if before := came_back(folder, name):
        typer.echo(
            f"{name} was revoked on {before}; this is another key: ask the hospital by telephone whose it is."
        )
    typer.echo(f"{name} is admitted. Send {certificate} back to the hospital (it holds no secret).")


def revoke(name: str, dir_: Dir = HERE) -> None:
    """Take a hospital's admission back; effective at once."""
    from server.journal import note
    from server.provision import revoke as revoke_site

    folder = server_at(dir_)
    revoke_site(folder, name)
    note(folder, "revoked", site=name)
    typer.echo(f"{name} is revoked: its next request is refused.")


class Renewed(StrEnum):
    """What can be renewed."""

    SERVER = "server"
    SIGNING = "signing"
    SITES = "sites"
    CA = "ca"


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

    folder = server_at(dir_)
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


def sites(dir_: Dir = HERE, as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """The hospitals that were admitted, and which of them are connected."""
    from server.ask import ask_status
    from server.provision import read_sites

    folder = server_at(dir_)
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


COMMANDS = (admit, revoke, renew, sites)
