"""Another version of the program in a folder of its own: what a machine that is upgraded, or not yet, runs."""

import re
import shutil
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("pneumofed", "server", "client", "common", "simulation", "configs")
METADATA = "Metadata-Version: 2.1\nName: pneumofed\nVersion: {version}\n"


def make_program(path: Path, version: str, protocol: int) -> Path:
    """Today's code that says it is `version` and speaks `protocol`: a folder for PYTHONPATH."""
    for room in ROOMS:
        shutil.copytree(ROOT / room, path / room, ignore=shutil.ignore_patterns("__pycache__"))
    about = path / f"pneumofed-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(METADATA.format(version=version), encoding="utf-8")
    file = path / "common" / "protocol.py"
    changed, n = re.subn(r"^PROTOCOL = \d+$", f"PROTOCOL = {protocol}", file.read_text(), flags=re.MULTILINE)
    assert n == 1
    file.write_text(changed)
    return path
