"""Real containers: podman with a storage of its own, and a base image made of Debian's packages, as no registry is asked."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.helpers.tools import require_tool

PACKAGES = "python3,python3-venv,openssl"
SOURCES = (Path("/etc/apt/sources.list"), Path("/etc/apt/sources.list.d/debian.sources"))
"""Where this machine has its own packages from."""
CONFINED = ("--read-only", "--cap-drop=all", "--security-opt=no-new-privileges", "--tmpfs", "/tmp")
LIMITS = ("--ulimit", "nofile=8192:8192", "--ulimit", "nproc=1000:1000")
"""Podman raises them otherwise, which not every machine's root may."""


@dataclass
class Podman:
    """Commands in a storage of their own."""

    path: Path

    def __call__(self, *words: object, check: bool = True) -> subprocess.CompletedProcess[str]:
        root, run = self.path / "root", self.path / "run"
        storage = ("--storage-driver", "overlay", "--root", root, "--runroot", run)
        runtime = ("--runtime", "runc", "--cgroup-manager", "cgroupfs")
        command = list(map(str, (require_tool("podman"), *storage, *runtime, *words)))
        done = subprocess.run(command, capture_output=True, text=True, timeout=400)
        assert done.returncode == 0 or not check, f"{command}\n{done.stdout}{done.stderr}"
        return done

    def import_base(self) -> str:
        """An image with what python:…-slim has and our files use; returns Python's version in it."""
        base = self.path / "base.tar"
        made = subprocess.run(
            [require_tool("mmdebstrap"), "--quiet", "--variant=minbase", f"--include={PACKAGES}", codename(), base,
             *filter(Path.is_file, SOURCES)],
            capture_output=True, text=True,
        )  # fmt: skip
        if made.returncode:
            pytest.skip(f"this machine makes no base image: {made.stderr.strip()[-200:]}")
        self("import", base, "localhost/base")
        base.unlink()
        tried = self("run", "--rm", *LIMITS, "localhost/base", "python3", "--version", check=False)
        if tried.returncode:
            pytest.skip(f"this machine runs no containers: {tried.stderr.strip()[-200:]}")
        version = ".".join(tried.stdout.split()[1].split(".")[:2])
        self("tag", "localhost/base", f"docker.io/library/python:{version}-slim")
        return version


def codename() -> str:
    """Of this machine's Debian: its packages are at hand."""
    lines = Path("/etc/os-release").read_text(encoding="utf-8").splitlines()
    return next(line.partition("=")[2] for line in lines if line.startswith("VERSION_CODENAME="))


@contextmanager
def a_podman() -> Iterator[Podman]:
    """All that it started is ended, and its storage gone, afterwards."""
    require_tool("runc")
    path = Path(tempfile.mkdtemp(prefix="pp-"))  # which podman wants short
    podman = Podman(path)
    try:
        yield podman
    finally:
        podman("rm", "--all", "--force", "--time", "0", check=False)
        podman("rmi", "--all", "--force", check=False)
        shutil.rmtree(path, ignore_errors=True)
