"""What people and scripts hold on to: commands and options, keys of a plan and of a site. Growth is deliberate.

After a change that is meant: PNEUMOFED_RECORD=1 pytest tests/test_surface.py, and a line in docs/changelog.md.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from client.settings import Hospital
from client.site_config import KEYS
from common.plan import Plan
from pneumofed.cli import app
from server.settings import ServerSettings
from simulation.scenario import Scenario
from tests.helpers.keys import keys

RECORD = Path(__file__).with_name("surface.json")


def commands(command, path="pneumofed") -> Iterator[tuple[str, list[str]]]:
    """Each command, and its arguments (by name) and options (by their first spelling)."""
    if hasattr(command, "commands"):
        for name, one in sorted(command.commands.items()):
            yield from commands(one, f"{path} {name}")
    else:
        yield path, [p.opts[0] if p.param_type_name == "option" else p.name.upper() for p in command.params]


def surface():
    return {
        "commands": dict(commands(typer.main.get_command(app))),
        "plan": list(keys(Plan)),
        "scenario": sorted(set(keys(Scenario))),
        "site": list(keys(Hospital)),
        "server": list(keys(ServerSettings)),
        "node": sorted(KEYS),
    }


def test_the_surface_is_the_recorded_one():
    if os.environ.get("PNEUMOFED_RECORD"):
        RECORD.write_text(json.dumps(surface(), indent=1) + "\n")
    recorded = json.loads(RECORD.read_text())
    for part, now in surface().items():
        assert now == recorded[part], part


@pytest.mark.parametrize("part", ["commands", "plan"])
def test_the_record_is_not_empty(part):
    assert len(surface()[part]) > 20
