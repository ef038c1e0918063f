"""The server's folder, as the coordinator's commands are told of it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from server.settings import ServerFolder

Dir = Annotated[Path, typer.Option("--dir", help="The server's folder.", envvar="PNEUMOFED_SERVER_DIR")]
HERE = Path()


def server_at(dir_: Path) -> "ServerFolder":
    """Raises ConfigError if the folder is not a server's, or others can read its keys."""
    from server.settings import ServerFolder

    folder = ServerFolder(dir_)
    folder.settings()
    return folder
