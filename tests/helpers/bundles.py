"""Offline bundles: made as a release makes them, of fewer packages."""

import subprocess
import sys
import tarfile
from collections.abc import Iterable
from pathlib import Path

from tests.helpers.tools import require_tool

SCRIPT = Path(__file__).parents[2] / "deploy" / "bundle.py"


def make_key(place: Path, name: str) -> tuple[Path, Path]:
    """An Ed25519 key, and its public half."""
    key, public, openssl = place / f"{name}.key", place / f"{name}.pub", require_tool("openssl")
    subprocess.run(
        [openssl, "genpkey", "-algorithm", "ed25519", "-out", key], check=True, capture_output=True
    )
    subprocess.run([openssl, "pkey", "-in", key, "-pubout", "-out", public], check=True, capture_output=True)
    return key, public


def make_bundle(place: Path, key: Path, packages: Iterable[str]) -> Path:
    """The folder of the unpacked bundle; with the program are `packages` and what they need."""
    require_tool("uv")
    wanted = [word for name in packages for word in ("--requirement", name)]
    command = [sys.executable, SCRIPT, "--key", key, "--out", place, *wanted]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (made,) = place.glob("*.tar")
    with tarfile.open(made) as tar:
        assert {(m.uid, m.gid, m.uname) for m in tar} == {(0, 0, "")}
        tar.extractall(place, filter="data")
    return made.with_suffix("")
