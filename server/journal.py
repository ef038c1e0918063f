"""Who did what at the server, audit.log: as a hospital's, each line chained to the one before
(common/audit.py).

Commands and the server itself write it, each under a lock of the file.
"""

import fcntl
import getpass
import os

from common.audit import AuditLog, Fact
from server.settings import ServerFolder

SERVER = "server"
"""Who did it, where nobody typed a command."""


def note(folder: ServerFolder, event: str, *, by: str | None = None, **facts: Fact) -> None:
    """Append one line and wait until the disk has it; `by` is whoever runs this process.

    Raises:
        DataError: the log's last line was changed.
        OSError: it could not be written.
    """
    with (folder.path / ".audit.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        AuditLog(folder.audit).add(event, by=by or who(), **facts)


def who() -> str:
    """The person's account, also behind sudo."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # a container's account without a name
        return f"uid {os.getuid()}"
