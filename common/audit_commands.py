"""`audit` and `audit verify`, as both sides have them."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer


def audit_commands(what: str, variable: str, log_of: Callable[[Path], Path]) -> typer.Typer:
    """The commands of one side.

    Args:
        what: is in the log, for the help.
        variable: of the environment, that names the folder.
        log_of: a side's folder -> its audit log; raises ConfigError if the folder is none of that side's.
    """
    app = typer.Typer(help=what, invoke_without_command=True)
    folder = typer.Option("--dir", help="The folder whose log it is.", envvar=variable)

    @app.callback()
    def audit(
        context: typer.Context,
        dir_: Annotated[Path, folder] = Path(),
        last: Annotated[int, typer.Option(min=0, help="How many entries; 0 for all.")] = 20,
        form: Annotated[
            Literal["text", "json", "cef"],
            typer.Option("--format", help="json: a line an entry; cef: for a SIEM."),
        ] = "text",
    ) -> None:
        """Show the last entries of the audit log."""
        from common.audit_lines import lines

        if context.invoked_subcommand is None:
            for line in lines(log_of(dir_), form, last):
                typer.echo(line)

    @app.command()
    def verify(dir_: Annotated[Path, folder] = Path()) -> None:
        """Check that no line of the audit log was changed, removed or inserted."""
        from common.audit import verify as verify_chain

        n, last = verify_chain(log_of(dir_))
        typer.echo(f"{n} entries, the chain is whole. Note this outside of the machine: {n} {last}")

    return app
