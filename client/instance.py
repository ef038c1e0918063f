"""Which machine and folder an agent runs in: a site's folder that was copied is noticed by the server."""

import hashlib
import socket
import uuid
from contextlib import suppress
from pathlib import Path

HEADER = "pneumofed-instance"
START = "pneumofed-start"
"""The header with a number that each start of an agent draws: of a machine that was cloned, two are heard."""
_MACHINE_ID = Path("/etc/machine-id")
_MADE_UP = 1 << 40  # uuid.getnode sets this bit where the machine tells no address


def instance_of(folder: Path) -> str:
    """32 hex digits: the same after a restart, others on another machine or for a copy of the folder. They
    say nothing about either."""
    state = folder.stat()
    facts = [socket.gethostname(), str(state.st_dev), str(state.st_ino)]
    with suppress(OSError):
        facts.append(_MACHINE_ID.read_text(encoding="utf-8").strip())
    if not (node := uuid.getnode()) & _MADE_UP:
        facts.append(str(node))
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:32]
