"""The site's folder, as the hospital's commands are told of it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from client.settings import SiteFolder

Dir = Annotated[Path, typer.Option("--dir", help="The site's folder.", envvar="PNEUMOFED_CLIENT_DIR")]
HERE = Path()


def site_at(dir_: Path) -> "SiteFolder":
    """Raises ConfigError if the folder is not a site's, or its settings are wrong."""
    from client.settings import SiteFolder

    folder = SiteFolder(dir_)
    folder.settings()
    return folder
