"""One row a site, from four sources: admission, its last request, the run, what it said of its patients."""

from dataclasses import replace

from server.standing import site_states
from server.watch import watch_of
from tests.helpers.plans import small_plan


def test_each_site_stands_where_the_run_has_it():
    watch = watch_of("trial", small_plan(), 2, ("out",))
    watch.now = replace(watch.now, here=["in"], refused={"no": "was denied by this site"})
    watch.asked(["in"], "train")
    watch.last_round = {"in": 3}
    connected = {"in": True, "no": True, "out": True, "away": False}
    said = {"in": {"n-train": 50.0, "n-validation": 9.0, "n-test": 9.0, "device": "cpu"}}
    states = site_states(connected, {"in": 0.0}, watch, said)
    assert {name: s.standing for name, s in states.items()} == {
        "away": "not here", "in": "in", "no": "refuses", "out": "left out"
    }  # fmt: skip
    assert states["no"].why == "was denied by this site"
    site = states["in"]
    assert (site.doing, site.last_round, site.connected) == ("training", 3, True)
    assert site.last_seen == "1970-01-01T00:00:00+00:00"
    assert site.patients == {"n-train": 50.0, "n-validation": 9.0}
    assert states["away"].last_seen is None


def test_without_a_run_a_site_is_here_or_not():
    (state,) = site_states({"in": True}, {}, None, {}).values()
    assert (state.standing, state.doing, state.last_round) == ("", "", None)
