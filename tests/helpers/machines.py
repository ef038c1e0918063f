"""Machines to follow a document on: each a folder that stands for /var/lib/pneumofed, with its service, and a shell
that runs the document's blocks as they stand there."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.helpers import warm

ROOT = Path(__file__).parents[2]
HOME = "/var/lib/pneumofed"
FENCE = re.compile(r"^## (?P<title>.+)$|^```sh\n# at (?P<place>.+)\n(?P<script>(?:.*\n)*?)```$", re.MULTILINE)

SYSTEMCTL = """#!{bash}
# What the blocks need of systemd: start, stop, restart of the one service of this machine.
stop() {{ [ -e "$MACHINE/pid" ] || return 0
  kill "$(cat "$MACHINE/pid")"; while kill -0 "$(cat "$MACHINE/pid")" 2>/dev/null; do sleep 0.1; done; rm "$MACHINE/pid"; }}
start() {{ side=${{1#pneumofed-}}; folder=$MACHINE/$([ "$side" = server ] && echo server || echo site)
  setsid "$MACHINE/bin/pneumofed" "$side" up --dir "$folder" >>"$MACHINE/log" 2>&1 </dev/null & echo $! >"$MACHINE/pid"
  if [ "$side" = server ]; then until [ -S "$folder/control.sock" ]; do sleep 0.1; done; fi; }}
case $1 in
  stop) stop ;;
  start) start "$2" ;;
  restart) stop; start "$2" ;;
  *) exit 1 ;;
esac
"""
PNEUMOFED = '#!{bash}\nexec {warm} "$@"\n'


def commands(document: Path) -> list[str]:
    """Every command of ours that a document tells people to type, as it stands there: lines of its fences, and what
    stands in a sentence with something to type after the name. Placeholders (…, [ ], |) make a synopsis, not a command."""
    text = document.read_text(encoding="utf-8")
    fences = re.findall(r"^```(?:sh)?\n((?:.*\n)*?)```$", text, re.MULTILINE)
    lines = [line for fence in fences for line in fence.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"`([^`\n]+)`", re.sub(r"^```[a-z]*\n(?:.*\n)*?```$", "", text, flags=re.MULTILINE))
    typed = [re.sub(r"\s+# .*$|\s{4,}#.*$", "", line).strip() for line in lines]
    ours = [line for line in typed if re.match(r"(uv run )?pneumofed \S", line)]
    return list(dict.fromkeys(line for line in ours if not re.search(r"[…\[\]]|\w\|\w", line)))


def audit_privacy(where: str, **named: str) -> list[str]:
    """The command that docs/privacy.md gives for `where`, as words, each placeholder replaced by what is `named` so."""
    (line,) = (
        c for c in commands(ROOT / "docs/privacy.md") if c.startswith(f"pneumofed audit-privacy {where} ")
    )
    for placeholder, value in named.items():
        line = line.replace(placeholder, value)
    return shlex.split(line)[1:]


def sections(document: Path) -> dict[str, list[tuple[str, str]]]:
    """Title -> its blocks, as (place, script)."""
    found: dict[str, list[tuple[str, str]]] = {}
    title = ""
    for part in FENCE.finditer(document.read_text(encoding="utf-8")):
        if part["title"]:
            title = part["title"]
            found[title] = []
        else:
            found[title].append((part["place"], part["script"]))
    return found


@dataclass
class Machine:
    """One computer. `words` are put in place of others in every script: names and ports of this test."""

    path: Path
    words: dict[str, str] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        tools = self.path / "bin"
        tools.mkdir(parents=True)
        words = {"bash": shutil.which("bash"), "warm": shlex.join(warm.command())}
        for name, script in (("systemctl", SYSTEMCTL), ("pneumofed", PNEUMOFED)):
            (tools / name).write_text(script.format(**words), encoding="utf-8")
            (tools / name).chmod(0o755)
        self.desk.mkdir()

    @property
    def desk(self) -> Path:
        """The folder in which somebody sits and types."""
        return self.path / "desk"

    def run(self, script: str) -> str:
        """What it prints; it ends at the first command that fails, and this is an error."""
        for old, new in {HOME: str(self.path), **self.words}.items():
            script = script.replace(old, new)
        env = {
            **os.environ,
            "PATH": f"{self.path / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "MACHINE": str(self.path),
            "PNEUMOFED_SERVER_DIR": str(self.path / "server"),
            "PNEUMOFED_CLIENT_DIR": str(self.path / "site"),
            **self.env,
        }
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.desk, env=env, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}\n{self.log()[-2000:]}"
        return done.stdout

    def bring(self, other: "Machine", *names: str) -> None:
        """Files from this desk to another's, as people send them."""
        for name in names:
            shutil.copy2(self.desk / name, other.desk / name)

    def log(self) -> str:
        path = self.path / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def end(self) -> None:
        """End its service, if it runs."""
        pid = self.path / "pid"
        if pid.exists():
            subprocess.run(["kill", pid.read_text().strip()], check=False, capture_output=True)
            end = time.monotonic() + 20
            while Path(f"/proc/{pid.read_text().strip()}").exists() and time.monotonic() < end:
                time.sleep(0.1)
