"""Faults, with real processes and kill -9: what is lost is what was being done, and nothing else."""

import os
import re
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from common.plan import Federation
from tests.helpers.deployment import wait_for
from tests.helpers.faults import NAMES, same, slow_plan, training_round, worker_of
from tests.helpers.runs import simulated
from tests.helpers.tools import require_faketime, require_tool

pytestmark = pytest.mark.slow


def test_an_agent_killed_in_training_costs_its_round_and_is_back_in_the_next(deployment):
    d = deployment(2, slow_plan(rounds=4, federation=Federation(quorum=0.5, deadline_s=60.0)))
    d.up("site-1", "site-2")
    name = d.run()
    wait_for("round 2 at site-1", lambda: training_round(d, "site-1", 2))
    d.kill("site-1")
    d.start("site-1")
    history = d.wait_finished(name)
    lost = [r["round"] for r in history if "site-1" not in r["sites"]]
    assert lost == [2], [sorted(r["sites"]) for r in history]
    assert history[1]["failed"]["site-1"] == "the site went away"
    assert sorted(history[1]["sites"]) == ["site-2"]


def test_a_crash_of_the_training_costs_one_reply_and_not_the_agent(deployment):
    d = deployment(2, slow_plan(rounds=4, federation=Federation(quorum=0.5, deadline_s=60.0)))
    d.up("site-1", "site-2")
    name = d.run()
    wait_for("round 2 at site-1", lambda: training_round(d, "site-1", 2))
    os.kill(worker_of(d, "site-1"), signal.SIGKILL)
    history = d.wait_finished(name)
    assert d.processes["site-1"].poll() is None
    assert "training failed" in history[1]["failed"]["site-1"]
    assert sorted(history[-1]["sites"]) == ["site-1", "site-2"]


def test_server_and_sites_killed_at_once_resume_to_the_weights_of_an_undisturbed_run(deployment, tmp_path):
    """With a codec: all that a run without one keeps, and what each side holds and owes besides."""
    plan = slow_plan(federation=Federation(quorum=1.0, deadline_s=120.0), codec={"name": "int4"})
    names = NAMES[:2]
    d = deployment(2, plan)
    d.up(*names)
    name = d.run()
    wait_for("round 2 at a site", lambda: training_round(d, "site-2", 2))
    d.kill("server")  # in the round
    time.sleep(1.0)
    d.start("server")
    assert d.status()["runs"][name]["state"] == "interrupted"
    d.ask("resume", name)
    d.wait_round(name, 3)
    d.kill(*names, "server")  # everything
    d.up(*names)
    d.ask("resume", name)
    history = d.wait_finished(name)
    assert [r["round"] for r in history] == [1, 2, 3, 4]
    assert all(sorted(r["sites"]) == names for r in history)
    assert same(d.weights(name), simulated(d, plan, tmp_path, names))


def test_a_site_that_joins_late_takes_part_from_then_on(deployment):
    d = deployment(2, slow_plan(rounds=6))
    d.up("site-1")
    name = d.run(sites=1)
    d.wait_round(name, 1)
    d.start("site-2")
    history = d.wait_finished(name)
    assert sorted(history[0]["sites"]) == ["site-1"]
    assert sorted(history[-1]["sites"]) == ["site-1", "site-2"]


def as_root(*words):
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"this machine does not allow {' '.join(words)}: {done.stderr.strip()}")


@pytest.fixture
def networks():
    """Two network namespaces with a cable between them, cut off from everything else: a server at 10.77.0.1,
    a site at .2."""
    require_tool("ip")
    a, b = f"pfa{os.getpid()}", f"pfb{os.getpid()}"
    try:
        as_root("ip", "netns", "add", a)
        as_root("ip", "netns", "add", b)
        as_root("ip", "link", "add", f"v{a}", "netns", a, "type", "veth", "peer", "name", f"v{b}", "netns", b)
        for name, address in ((a, "10.77.0.1/24"), (b, "10.77.0.2/24")):
            as_root("ip", "-n", name, "addr", "add", address, "dev", f"v{name}")
            as_root("ip", "-n", name, "link", "set", f"v{name}", "up")
            as_root("ip", "-n", name, "link", "set", "lo", "up")
        yield a, b
    finally:
        for name in (a, b):
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


def test_a_site_cut_off_for_longer_than_the_deadline_comes_back(deployment, networks):
    a, b = networks
    plan = slow_plan(rounds=6, federation=Federation(quorum=0.5, deadline_s=8.0))
    d = deployment(2, plan, host="10.77.0.1", listen="10.77.0.1")
    for name in ("site-1", "site-2"):
        d.set(name, server=f"10.77.0.1:{d.port}")
    d.prefix = {
        "server": ["ip", "netns", "exec", a],
        "site-1": ["ip", "netns", "exec", a],
        "site-2": ["ip", "netns", "exec", b],
    }
    d.up("site-1", "site-2")
    name = d.run()
    wait_for("round 2 at site-2", lambda: training_round(d, "site-2", 2))
    as_root("ip", "-n", b, "link", "set", f"v{b}", "down")
    d.wait_round(name, 2)
    as_root("ip", "-n", b, "link", "set", f"v{b}", "up")
    history = d.wait_finished(name)
    assert history[1]["failed"] == {"site-2": "no answer before the deadline"}
    assert sorted(history[-1]["sites"]) == ["site-1", "site-2"]
    log = d.log("site-2")
    assert "gave up a train: the round's deadline is over" in log or "does not wait for this answer" in log


@pytest.fixture
def small_disk(tmp_path):
    """path, size -> a file system of its own there, as small as wanted."""
    mounted = []

    def mount(path, size):
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        as_root("mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(path))
        mounted.append(path)
        return path

    yield mount
    for path in mounted:
        subprocess.run(["umount", "-l", str(path)], capture_output=True)


def fill(folder):
    """Take all the space that is left; returns the file that does."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"\0" * 4096)
    return filler


def test_a_full_disk_at_the_server_stops_the_run_which_can_be_resumed(deployment, small_disk):
    d = deployment(1, slow_plan(federation=Federation(quorum=1.0, deadline_s=120.0)))
    small_disk(d.server.runs, "2m")
    d.up("site-1")
    name = d.run()
    d.wait_round(name, 1)
    filler = fill(d.server.runs)
    about = wait_for(
        "the failure", lambda: (a := d.status()["runs"][name])["state"] not in ("running",) and a
    )
    assert about["state"] in ("failed", "interrupted")
    assert "No space left on device" in d.log("server")
    filler.unlink()
    d.ask("resume", name)
    assert [r["round"] for r in d.wait_finished(name)] == [1, 2, 3, 4]


def test_a_full_disk_at_a_site_stops_the_site_until_there_is_space(deployment, small_disk):
    d = deployment(0, slow_plan(rounds=6, federation=Federation(quorum=1.0, deadline_s=120.0)))
    small_disk(d.path / "site-1", "64m")
    d.make_site("site-1")
    d.approve("site-1")
    d.up("site-1")
    name = d.run()
    d.wait_round(name, 1)
    filler = fill(d.site("site-1").path)
    wait_for("the complaint", lambda: "nothing is done until" in d.log("site-1"))
    filler.unlink()
    assert len(d.wait_finished(name)) == 6
    assert d.at("site-1", "audit", "verify").endswith("\n")


@pytest.mark.parametrize(
    ("shift", "said"), [("-1h", r"clock is 3[56]\d\d s behind"), ("+9", r"clock is 1?\d s ahead of")]
)
def test_a_clock_that_is_off_is_named_by_the_agent_and_by_the_check(deployment, shift, said):
    d = deployment(1)
    d.prefix["site-1"] = ["env", f"LD_PRELOAD={require_faketime()}", f"FAKETIME={shift}"]
    d.up("site-1")
    wait_for("the complaint", lambda: re.search(said, d.log("site-1")))
    done = d.command("client", "check", "--dir", str(d.site("site-1").path), prefix=d.prefix["site-1"])
    assert done.returncode == 2
    assert re.search(said, done.stdout)
    assert "the server's; set it right (NTP)" in done.stdout


def test_a_clock_that_jumps_by_hours_in_a_run_costs_nothing(deployment):
    """Forward at the server and back at a site, as when an administrator sets them, or NTP at last reaches
    them."""
    names = NAMES[:2]
    d = deployment(2, slow_plan(rounds=4))
    shifts, moved = (
        {"server": "18000", "site-1": "-10800"},
        Path(__file__).parents[1] / "helpers/jumping_clock",
    )
    for name in shifts:
        (d.path / f"{name}.shift").write_text("0")
        d.prefix[name] = ["env", f"PYTHONPATH={moved}", f"CLOCK_SHIFT_FILE={d.path / name}.shift"]
    d.up(*names)
    name = d.run()
    d.wait_round(name, 1)
    for jumped, shift in shifts.items():
        (d.path / f"{jumped}.shift").write_text(shift)
    history = d.wait_finished(name)
    assert [sorted(r["sites"]) for r in history] == [names] * 4
    times = [entry["time"] for entry in d.audit("site-1")]
    assert times != sorted(times), "the clock did not jump"


def test_an_agent_ends_properly_and_lets_the_server_know(deployment):
    d = deployment(1)
    d.up("site-1")
    wait_for("the site", lambda: d.status()["connected"] == ["site-1"])
    assert d.end("site-1") == 0
    assert d.status()["connected"] == []
    assert d.end("server") == 0
    assert not d.server.socket.exists()
