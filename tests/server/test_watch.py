"""What is kept of a run for whoever looks: who works since when, and how long the rest takes."""

import math

import pytest

from common.results.rounds import RoundReport
from server.watch import watch_of
from tests.helpers.clocks import Clock
from tests.helpers.plans import small_plan


def report(number, seconds, *sites):
    return RoundReport(
        round=number, bytes_down=0, bytes_up=0, sites={s: {} for s in sites}, failed={}, seconds=seconds
    )


def test_a_site_works_from_when_it_was_asked_until_it_answers():
    clock = Clock(100.0)
    watch = watch_of("trial", small_plan(rounds=5), 2, ("west",))
    watch._clock = clock
    watch.gathering(["north"], 1, {"south": "awaits approval"})
    assert (watch.now.doing, watch.now.needed, watch.now.without) == ("waiting for sites", 1, ("west",))
    watch.asked(["north", "south"], "train")
    clock.now += 7.0
    watch.replied("south", "train")
    assert (watch.working_s("north"), watch.now.doing) == (7.0, "training")
    assert math.isnan(watch.working_s("south"))
    watch.asked(["north"], "evaluate")
    assert (watch.working_s("north"), watch.now.doing) == (0.0, "validating")
    watch.finished_round(report(1, 3.0, "north"))
    assert watch.working == {}


def test_the_estimate_is_the_median_round_and_one_slow_round_does_not_spoil_it():
    watch = watch_of("trial", small_plan(rounds=10), 2, ())
    assert math.isnan(watch.now.left_s)
    for number, seconds in ((3, 10.0), (4, 500.0), (5, 12.0)):
        watch.finished_round(report(number, seconds, "north"))
    assert watch.now.left_s == pytest.approx(5 * 12.0)


def test_after_a_resume_it_knows_in_which_round_each_site_was_last():
    watch = watch_of("trial", small_plan(rounds=10), 2, ())
    watch.remember([report(1, 1.0, "north", "south"), report(2, 1.0, "north")])
    assert watch.last_round == {"north": 2, "south": 1}
    assert watch.now.round == 2
