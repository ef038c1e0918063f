"""`pneumofed client peers …`: the other hospitals that this one counts on in secure aggregation."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from client.options import HERE, Dir, site_at
from common.errors import ConfigError
from common.text import printable

if TYPE_CHECKING:
    from client.governance.peers import Peers
    from client.settings import SiteFolder
    from common.plan import Plan

app = typer.Typer(
    help="The hospitals that this one counts on in secure aggregation.", invoke_without_command=True
)


@app.callback()
def peers(context: typer.Context, dir_: Dir = HERE) -> None:
    """Show this hospital's fingerprint, to read out to the others, and whom it confirmed."""
    if context.invoked_subcommand is not None:
        return
    folder = _folder(dir_)
    typer.echo(f"This hospital: {_own(folder)}")
    confirmed = _peers(folder).confirmed()
    for name, fingerprint in sorted(confirmed.items()):
        typer.echo(f"  {printable(name, 60)}: {fingerprint}")
    if not confirmed:
        typer.echo(
            "No peer is confirmed. Ask each hospital for its name in the federation and its fingerprint, by "
            "telephone, then: pneumofed client peers confirm NAME FINGERPRINT"
        )


@app.command()
def confirm(
    name: Annotated[str, typer.Argument(help="The hospital's name in the federation.")],
    fingerprint: Annotated[str, typer.Argument(help="Its fingerprint, as it read it out.")],
    dir_: Dir = HERE,
) -> None:
    """Count on a hospital: whoever holds the key with this fingerprint is it."""
    from client.governance.peers import normal

    folder = _folder(dir_)
    if normal(fingerprint) == normal(_own(folder)):
        raise ConfigError("that is this hospital's own fingerprint; expected the other's, as it read it out")
    _peers(folder).confirm(name, fingerprint)
    typer.echo(f"{printable(name, 60)} is confirmed.")


@app.command()
def revoke(name: Annotated[str, typer.Argument(help="The hospital's name.")], dir_: Dir = HERE) -> None:
    """Count on a hospital no more: no round with it has this site's update."""
    _peers(_folder(dir_)).revoke(name)
    typer.echo(f"{printable(name, 60)} is no peer of this site any more.")


def _folder(path: Path) -> "SiteFolder":
    from client.provision import make_identity

    folder = site_at(path)
    make_identity(folder)
    return folder


def _own(folder: "SiteFolder") -> str:
    """This hospital's fingerprint."""
    from common.credentials import read_key
    from common.secure.keys import fingerprint_of, identity_of

    return fingerprint_of(identity_of(read_key(folder.identity)))


def _peers(folder: "SiteFolder") -> "Peers":
    from client.governance.peers import Peers

    return Peers(folder.peers)


def objection(folder: "SiteFolder", plan: "Plan") -> str | None:
    """Why a plan with secure aggregation cannot be approved yet, or None."""
    threshold = plan.aggregation.threshold
    if threshold is None:
        return None
    n = len(_peers(folder).confirmed()) + 1
    if n >= threshold:
        return None
    return (
        f"its threshold is {threshold} hospitals, with this one {n} {'is' if n == 1 else 'are'} confirmed "
        "here; see: pneumofed client peers"
    )
