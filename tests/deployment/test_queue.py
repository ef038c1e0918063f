"""Runs one after another, with whom is there: real processes, nobody at the console."""

import json
import time

import pytest

from common.plan import Federation
from tests.helpers.command import refused
from tests.helpers.deployment import wait_for
from tests.helpers.faults import same, slow_plan
from tests.helpers.plans import small_plan
from tests.helpers.runs import simulated

pytestmark = pytest.mark.slow


def state_of(d, name):
    return d.status()["runs"][name]["state"]


def test_runs_are_queued_and_begin_by_themselves_in_their_order(deployment, tmp_path):
    d, names = deployment(2, small_plan(federation=Federation(deadline_s=60.0))), ["site-1", "site-2"]
    plans = {name: small_plan(name=name, seed=i) for i, name in enumerate(("later", "sooner", "never"))}
    for plan in plans.values():
        d.approve(*names, plan=plan)
    d.up()
    first = d.run()  # it waits for its sites
    for name, plan in plans.items():
        d.plan = plan
        d.run(*(["--first"] if name == "sooner" else []))
    order = [line.split(":")[0] for line in d.ask("runs").splitlines() if "queued" in line]
    assert order == ["sooner", "later", "never"]
    d.ask("cancel", "never")
    rows = [row.split() for row in d.ask("status").splitlines() if row.startswith("site-")]
    assert rows == [[name, "no", "not", "yet", "not", "here"] for name in names]
    for name in names:
        d.start(name)
    d.wait_finished(first)
    for name in ("sooner", "later"):
        d.wait_finished(name)
        assert same(d.weights(name), simulated(d, plans[name], tmp_path / name, names))
    started = [e["run"] for e in map(json.loads, d.ask("audit", "--format", "json", "--last", "0").splitlines())
               if e["event"] == "finished"]  # fmt: skip
    assert started == [first, "sooner", "later"]
    assert state_of(d, "never") == "cancelled"
    for command in ("cancel", "resume"):
        refused(d.command("server", command, "never", "--dir", str(d.server.path)), "never: is cancelled")
    refused(d.command("server", "cancel", first, "--dir", str(d.server.path)), "is finished")


def test_the_queue_outlives_the_server_and_a_stop_lets_the_next_begin(deployment):
    slow = slow_plan(name="slow", rounds=40)
    d, names = deployment(2, slow), ["site-1", "site-2"]
    next_plan = small_plan(name="next")
    d.approve(*names, plan=next_plan)
    d.up(*names)
    first = d.run()
    d.wait_round(first, 1)
    d.plan = next_plan
    for _ in range(2):
        d.run()
    assert d.end("server") == 0  # in order: it goes on with what it did
    d.start("server")
    assert d.status()["running"]["name"] == first
    d.wait_round(first, 2)
    d.kill("server")  # of a crash somebody should know
    d.start("server")
    d.wait_finished("next")
    assert state_of(d, first) == "interrupted"
    d.ask("stop")  # the second waits for an approval
    d.ask("resume", first)
    wait_for("the long run", lambda: (now := d.status()["running"]) and now["name"] == first)
    d.ask("stop")
    assert state_of(d, first) == "stopped"
    assert "goes on" in d.ask("resume", first)
    d.wait_round(first, 3)
    d.ask("cancel", first)
    wait_for("the end", lambda: state_of(d, first) == "cancelled")


def test_a_hospital_decides_about_a_run_before_its_turn(deployment):
    slow, later = slow_plan(name="slow", rounds=90), small_plan(name="later")
    d, names = deployment(2, slow), ["site-1", "site-2"]
    d.up(*names)
    first = d.run()
    d.wait_round(first, 1)
    d.plan = later
    assert "is queued" in d.ask("run", str(d.write_plan()), "--without", "site-2")
    wait_for("the plan", lambda: later.sha256 in d.at("site-1", "pending"))
    assert "No plan awaits" in d.at("site-2", "pending")
    d.at("site-1", "approve", later.sha256[:8])
    d.ask("stop")
    d.wait_finished("later")
    d.ask("resume", first)
    d.run("--without", "site-2")
    wait_for("the same plan", lambda: "asks for one more" in d.at("site-1", "pending"))
    assert [e["plan"] for e in d.audit("site-1") if e["event"] == "shown"] == [later.sha256] * 2
    assert not [e for e in d.audit("site-1") if e["event"] == "refused" and "approv" in e["reason"]]


def test_a_run_waits_for_no_site_that_was_revoked_or_is_left_out(deployment):
    d = deployment(4, slow_plan(rounds=4, federation=Federation(quorum=1.0, deadline_s=60.0)))
    d.up("site-1", "site-2", "site-4")
    refused(
        d.command("server", "run", str(d.write_plan()), "--without", "nobody", "--dir", str(d.server.path)),
        "--without nobody: no such site is admitted",
    )
    name = d.run("--without", "site-4")
    wait_for("two sites", lambda: (now := d.status()["running"]) and len(now["here"]) == 2)
    assert d.status()["sites"]["site-4"]["standing"] == "left out"
    assert d.status()["running"]["needed"] == 3
    d.ask("revoke", "site-3")  # which never came
    d.wait_round(name, 1)
    d.ask("stop")
    d.ask("revoke", "site-2")
    d.ask("resume", name)
    history = d.wait_finished(name)
    assert sorted(history[0]["sites"]) == ["site-1", "site-2"]
    assert sorted(history[-1]["sites"]) == ["site-1"]


def test_a_run_that_is_resumed_takes_other_sites_if_it_is_told_so(deployment):
    d = deployment(3, slow_plan(rounds=4, federation=Federation(quorum=1.0, deadline_s=60.0)))
    d.up("site-1", "site-2", "site-3")
    name = d.run()
    d.wait_round(name, 1)
    d.ask("stop")
    d.kill("site-3")
    time.sleep(0.5)
    refused(
        d.command(
            "server", "resume", name, "--sites", "3", "--without", "site-3", "--dir", str(d.server.path)
        ),
        "3 sites are admitted, 1 of them left out, the run needs 3",
    )
    d.ask("resume", name, "--without", "site-3")
    history = d.wait_finished(name)
    assert sorted(history[-1]["sites"]) == ["site-1", "site-2"]
