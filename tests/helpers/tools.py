"""Programs and real data that a machine may lack: under CI no program may be missing."""

import os
import shutil
from pathlib import Path

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


def require_tool(name: str) -> str:
    """The tool's path; without it the test is skipped, and fails under CI."""
    path = shutil.which(name)
    if path is None:
        import pytest

        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"needs the program {name}")
    return path


def require_faketime() -> Path:
    """Its library, for LD_PRELOAD. The wrapper of the same name refuses to start once a killed process that had
    its number has left a semaphore behind."""
    return next(Path(require_tool("faketime")).parents[1].glob("lib/*/faketime/libfaketime.so.1"))


def require_data(*parts: str) -> Path:
    """A file or folder of the real data, which is not in the repository."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        import pytest

        pytest.skip(f"needs the real data {'/'.join(parts)}")
    return path
