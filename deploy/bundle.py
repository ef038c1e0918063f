"""Everything that a hospital's machine needs, in one file: to install without any network.

    python deploy/bundle.py --key release.key

writes pneumofed-VERSION-PLATFORM.tar: wheels of the program and of all that it needs for this machine's
platform and Python, documents, units, install.sh, checksums of all of it, and a signature of the checksums.
How it is installed: docs/procedures.md. Needs uv and openssl.
"""

import argparse
import hashlib
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
SUMS, SIGNATURE = "SHA256SUMS", "SHA256SUMS.sig"
PIP = ("uv", "tool", "run", "--python", sys.executable, "pip")


def run(*command: str) -> None:
    """Raises SystemExit with what the command said, if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise SystemExit(f"bundle: {' '.join(command[:4])} …: {(done.stderr or done.stdout).strip()[-400:]}")


def collect(folder: Path, requirements: Sequence[str]) -> str:
    """Fill `folder` with all but checksums; returns the bundle's name. If there are `requirements`, they are
    taken instead of the program's own."""
    wheels = folder / "wheels"
    run("uv", "build", "-q", "--wheel", "--out-dir", str(wheels), str(ROOT))
    (wheels / ".gitignore").unlink(missing_ok=True)
    (wheel,) = wheels.glob("pneumofed-*.whl")
    wanted = requirements or [str(wheel)]
    run(*PIP, "download", "-q", "--only-binary", ":all:", "-d", str(wheels), *wanted)
    for part in ("docs", "deploy", "configs"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", "gallery"))
    shutil.copy2(ROOT / "deploy" / "install.sh", folder / "install.sh")
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    platform = sysconfig.get_platform().replace("-", "_")
    return f"{wheel.name.split('-py3')[0]}-{python}-{platform}"


def seal(folder: Path, key: Path) -> None:
    """Checksums of every file, and their signature."""
    lines = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with path.open("rb") as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path.relative_to(folder)}\n")
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")
    run(
        "openssl", "pkeyutl", "-sign", "-rawin", "-inkey", str(key), "-in", str(folder / SUMS),
        "-out", str(folder / SIGNATURE),
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> Path:
    """Make one; returns its path."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--key", type=Path, required=True, help="The release's private key (Ed25519, PEM).")
    parser.add_argument("--out", type=Path, default=Path(), help="Where the bundle goes.")
    parser.add_argument(
        "--requirement", action="append", default=[], help="Take these instead of all that the program needs."
    )
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=given.out) as temporary:
        folder = Path(temporary)
        name = collect(folder, given.requirement)
        seal(folder, given.key)
        target = given.out / f"{name}.tar"
        with tarfile.open(target, "w") as tar:
            tar.add(folder, arcname=name, filter=owned_by_nobody)
    print(f"{target}: {target.stat().st_size / 1e6:.0f} MB")
    return target


def owned_by_nobody(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Nothing of who made it is in it."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    if member.isdir():
        member.mode = 0o755
    return member


if __name__ == "__main__":
    main()
