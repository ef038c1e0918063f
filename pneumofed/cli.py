"""The `pneumofed` command: every room's commands under one name, and one way to say what is wrong."""

import errno
import sys
from io import TextIOWrapper
from typing import Annotated

import typer

from client import cli as client_cli
from client.prediction import cli as prediction_cli
from common.errors import PneumofedError
from common.protocol import program
from common.text import printable
from server import cli as server_cli
from simulation import cli as simulation_cli

app = typer.Typer(
    help="Federated learning across hospitals for pneumonia detection from sequences of chest images.",
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
)  # fmt: skip


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"pneumofed {program()}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say it and end.")
    ] = False,
) -> None:
    return


app.add_typer(server_cli.app, name="server")
app.add_typer(client_cli.app, name="client")
for command in (prediction_cli.evaluate, *simulation_cli.COMMANDS):
    app.command()(command)


LONGEST = 5000
"""Characters of what is said of a problem."""


def main() -> None:
    """Entry point: every problem that a user can act on is one line and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal that lacks a letter ends no run after all its work
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except PneumofedError as e:
        problem = str(e)
    except OSError as e:
        # pydicom wraps a full disk into an OSError without a number: its first line says what it was.
        what = e.strerror or str(e).splitlines()[0]
        full = e.errno in (None, errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        advice = "; free some space, or choose another place, and give the command again" if full else ""
        problem = f"{e.filename or 'the system'}: {what}{advice}"
    else:
        return
    sys.stderr.write(f"pneumofed: {printable(problem, LONGEST)}\n")
    sys.exit(2)


if __name__ == "__main__":
    main()
