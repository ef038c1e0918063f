"""A federation that lives for years, in one test: half a run, then everything that happens to machines, keys and people."""

from pathlib import Path

import numpy as np
import pytest

from common.plan import Federation as Quorum
from common.plan import Privacy
from common.protocol import PROTOCOL
from tests.helpers.faults import same, slow_plan
from tests.helpers.federation import PROCEDURES
from tests.helpers.plans import small_plan
from tests.helpers.programs import make_program
from tests.helpers.runs import simulated
from tests.helpers.tools import require_faketime

pytestmark = pytest.mark.slow
STEADY_SLEEP = Path(__file__).parents[1] / "helpers" / "steady_sleep"
STAY = ("st-john", "st-mary")
PLAN = slow_plan(rounds=4, federation=Quorum(quorum=1.0, deadline_s=60.0))
PRIVATE = small_plan(
    name="private", privacy=Privacy(epsilon=8.0, delta=1e-3, steps=4), evaluation={"every": 0}
)


def in_days(n, env):
    """A machine's clock, ahead, beside what its environment has."""
    path = [part for part in (env.get("PYTHONPATH", ""), str(STEADY_SLEEP)) if part]
    return {"LD_PRELOAD": str(require_faketime()), "FAKETIME": f"+{n}d", "NO_FAKE_STAT": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1", "PYTHONPATH": ":".join(path)}  # fmt: skip


def everywhere(f, days):
    """Every machine that is in use started again, so many days later."""
    used = {"the server": "server", **dict.fromkeys(STAY, "client")}
    for name in used:
        f[name].run("systemctl stop pneumofed")
    for name, service in used.items():
        f[name].env |= in_days(days, f[name].env)
        f[name].run(f"systemctl start pneumofed-{service}")


def test_a_run_ends_with_the_weights_of_an_undisturbed_one_whatever_happens_to_the_federation(
    machines, tmp_path
):
    """Upgrade of one side and not of the other, a server and a site that move, another key, a site that is removed, two
    years and all certificates, a new name."""
    old = {"PYTHONPATH": str(make_program(tmp_path / "old", "0.0.9", PROTOCOL - 1))}
    f = machines(PLAN, "st-mary", "st-john", "st-luke", env=old)
    f.connected(*STAY, "st-luke")
    for name in (*STAY, "st-luke"):
        f.approve(name, PRIVATE)
    f.finished(f.begin(PRIVATE))
    spent = {name: f[name].run("pneumofed client ledger") for name in STAY}
    assert all("2 rounds, 8 steps" in text for text in spent.values()), spent
    run = f.begin(None, "--without st-luke")
    f.round(1)
    f.stop()
    # Server and st-mary to new machines with today's program; st-john keeps the older one.
    f.env.clear()
    f.follow("Move the server to another machine")
    f.machines["the server"] = f.machines["the new server"]
    f.follow("Move a hospital's site to another machine")
    f.machines["st-mary"] = f.machines.pop("the new st-mary")
    f.follow("Another key for a site")
    f["the server"].run(PROCEDURES["Remove a site, and take it back"][0][1].replace("st-mary", "st-luke"))
    f["st-luke"].run("systemctl stop pneumofed-client")
    # Two years and two months later the certificates end within the month.
    everywhere(f, 800)
    f.connected(*STAY)
    assert f["the server"].run("pneumofed server check").count("its certificate ends in 2") >= 3
    f.follow("Certificates", lambda: f.took_in_the_new_ca("st-john"))
    everywhere(f, 830)
    f.connected(*STAY)
    f.follow("Give the server another name or port", f.shows_the_new_certificate)
    f["st-john"].run(PROCEDURES["Give the server another name or port"][1][1])
    f["the server"].run(f"pneumofed server resume {run}")
    history = f.finished(run)
    assert [sorted(r["sites"]) for r in history] == [list(STAY)] * 4
    assert same(f.weights(run), simulated(f, PLAN, tmp_path, list(STAY)))
    assert all(np.isfinite(w).all() for w in f.weights(run).values())
    assert "st-john runs pneumofed 0.0.9" in f["the server"].log()
    assert f"protocol {PROTOCOL}" not in f["st-john"].log()  # neighbours: nobody must upgrade
    for name in STAY:
        assert f[name].run("pneumofed client ledger") == spent[name]
        f[name].run("pneumofed client audit verify")
        f[name].run("pneumofed client check")
    f["the server"].run("pneumofed server check\npneumofed server audit verify")
