"""The service and container files: valid, and with few rights."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.tools import require_tool

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"


@pytest.mark.parametrize("side", ["server", "client"])
def test_systemd_takes_the_service_and_finds_it_well_confined(side, tmp_path):
    analyse = require_tool("systemd-analyze")
    unit = tmp_path / f"pneumofed-{side}.service"
    text = (DEPLOY / unit.name).read_text()
    command = re.search(r"^ExecStart=(\S+)", text, re.M).group(1)
    unit.write_text(text.replace(command, sys.executable).replace("file:/opt", "file:/"))
    verified = subprocess.run([analyse, "verify", "--man=no", str(unit)], capture_output=True, text=True)
    assert not [line for line in verified.stderr.splitlines() if unit.name in line], verified.stderr
    judged = subprocess.run(
        [analyse, "security", "--offline=true", "--no-pager", str(unit)], capture_output=True, text=True
    )
    exposure = float(re.search(r"exposure level for \S+: ([\d.]+)", judged.stdout).group(1))
    assert exposure <= 2.5, judged.stdout


@pytest.mark.parametrize("side", ["server", "client"])
def test_a_container_runs_as_an_ordinary_user_and_brings_no_shell_start(side):
    lines = (DEPLOY / f"Containerfile.{side}").read_text().splitlines()
    words = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    last_stage = words[max(i for i, w in enumerate(words) if w[0] == "FROM") :]
    order = [w[0] for w in last_stage]
    assert ["USER", "10001"] in last_stage
    assert order.index("USER") < order.index("ENTRYPOINT")
    assert "RUN" not in order[order.index("USER") :]
    assert any("--read-only" in line and "--cap-drop=all" in line for line in lines)
    assert (["EXPOSE", "8443"] in last_stage) is (side == "server")
