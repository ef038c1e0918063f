"""What the coordinator reads: the run with its scores and its end, each site in words, the other runs."""

import datetime
import math
import re
from dataclasses import replace

import pytest

from common.errors import RunError
from common.results.rounds import Evaluation, RoundReport
from common.results.status import Progress, RunRecord, RunState, SiteState, Status
from server.runs import Runs
from server.settings import ServerFolder
from server.status import run_lines, states_of, status_lines

LAST = RoundReport(
    round=4,
    bytes_down=0,
    bytes_up=0,
    sites={},
    failed={"south": "too late"},
    evaluation=Evaluation(
        loss=0.41, auroc=0.912, brier=0.1, temperature=1.0, auroc_se=0.02, sites={}, failed={}
    ),
    seconds=30.0,
)
NOW = Progress(
    name="trial", rounds=10, needed=3, round=4, doing="training", here=["north", "south"],
    refused={"west": "awaits approval"}, last=LAST, left_s=180.0,
)  # fmt: skip


def ago(seconds):
    now = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=seconds)
    return now.isoformat(timespec="seconds")


def test_a_run_that_goes_on_is_told_with_its_scores_and_when_it_may_end():
    lines = status_lines(Status(running=NOW, runs={}, connected=["north", "south"]))
    assert "trial: round 4 of 10 done, training (2 of 3 sites are in)" in lines
    assert "  validation AUROC 0.912, loss 0.410; 6 rounds left, about 3.0 min" in lines
    assert "  south failed in the last round: too late" in lines
    done = replace(NOW, last=replace(LAST, round=10, evaluation=None))
    assert "  the last round is done" in status_lines(Status(running=done, runs={}, connected=[]))


def test_each_site_is_a_row_that_says_what_it_does_or_why_not():
    sites = {
        "north": SiteState(
            connected=True, last_seen=ago(1), standing="in", doing="training", doing_s=12.0, last_round=4,
            patients={"n-train": 120.0, "n-validation": math.nan},
        ),
        "south": SiteState(connected=True, last_seen=ago(50), standing="in", last_round=3),
        "west": SiteState(
            connected=True, last_seen=ago(0), standing="refuses", why="plan 3f2a9c awaits approval"
        ),
        "east": SiteState(connected=False, last_seen=ago(7200), standing="not here"),
        "new": SiteState(connected=False, standing="left out"),
    }  # fmt: skip
    head, north, south, west, east, new = status_lines(
        Status(running=NOW, runs={}, connected=[], sites=sites)
    )[-6:]
    assert head.split("  ")[0] == "site"
    assert north.split() == ["north", "yes", "now", "4", "120/?", "training", "for", "12.0", "s"]
    assert re.fullmatch(r"south +yes +5\d\.\d s ago +3 +in", south)  # it may have been killed
    assert west.endswith("plan 3f2a9c awaits approval")
    assert east.split() == ["east", "no", "2.0", "h", "ago", "not", "here"]
    assert new.split() == ["new", "no", "not", "yet", "left", "out"]


def test_runs_that_wait_stand_first_in_their_order_and_others_say_how_to_go_on():
    runs = {
        "a": RunState(state="finished", problem=""),
        "b": RunState(state="queued", problem="", place=2),
        "c": RunState(state="queued", problem="", place=1),
        "d": RunState(state="failed", problem="the disk is full"),
        "e": RunState(state="cancelled", problem=""),
    }
    assert run_lines(runs) == [
        "c: queued, number 1",
        "b: queued, number 2",
        "a: finished",
        "d: failed: the disk is full  (go on with: pneumofed server resume d)",
        "e: cancelled",
    ]
    (first, second, *_) = status_lines(Status(running=None, runs=runs, connected=[]))
    assert (first, second) == ("no run is going on", "no site is admitted yet")


def test_without_a_server_the_folder_says_what_runs_there_are(tmp_path, coordinator):
    runs = Runs(coordinator.runs)
    (coordinator.runs / "a").mkdir(parents=True)
    runs.write("a", RunRecord(run="1", min_sites=2, started="2026-11-01T10:00:00+00:00"))
    assert states_of(coordinator)["a"].state == "interrupted"
    with pytest.raises(RunError, match="no such run; runs are: a"):
        runs.record("b")
    assert states_of(ServerFolder(tmp_path / "none")) == {}
