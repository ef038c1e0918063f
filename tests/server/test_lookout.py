"""What a coordinator is told: the end of a run, a site that is gone, a certificate; each once."""

import pytest

from common.checkup import Finding
from common.results.status import RunState, Status
from server.lookout import LOST_S, Lookout
from tests.helpers.clocks import Clock


class Herald:
    """Remembers what it was to tell."""

    def __init__(self):
        self.told, self.over = [], []

    def tell(self, key, subject, text):
        self.told.append((key, subject, text))

    def forget(self, key):
        self.over.append(key)


@pytest.fixture
def herald():
    return Herald()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def lookout(herald, clock):
    return Lookout(herald, clock)


ADMITTED = ("north", "south")


def status(connected=(), **runs):
    states = {name: RunState(state=state, problem=problem) for name, (state, problem) in runs.items()}
    return Status(running=None, runs=states, connected=list(connected), sites=dict.fromkeys(ADMITTED))


def test_a_run_that_ended_is_told_with_its_problem(lookout, herald):
    lookout.look(status(small=("running", "")))
    lookout.look(status(small=("finished", "")))
    lookout.look(status(small=("finished", "")))
    lookout.look(status(small=("finished", ""), other=("failed", "1 of 3 sites gave a usable update")))
    assert [subject for _, subject, _ in herald.told] == ["run small finished", "run other failed"]
    assert herald.told[1][2] == "1 of 3 sites gave a usable update"


def test_what_ended_before_the_server_started_is_no_news(lookout, herald):
    lookout.look(status(old=("finished", ""), older=("failed", "x")))
    assert herald.told == []


def test_a_site_that_is_gone_for_long_is_told_and_its_return_ends_it(lookout, herald, clock):
    lookout.look(status(["north", "south"]))
    clock.now = LOST_S - 1
    lookout.look(status(["south"]))
    assert herald.told == []
    clock.now = LOST_S + 1
    lookout.look(status(["south"]))
    ((key, subject, text),) = herald.told
    assert (key, subject) == ("lost north", "site north is lost")
    assert "10 minutes" in text
    lookout.look(status(["north"]))
    assert "lost north" in herald.over


def test_a_site_that_was_revoked_is_not_missed(lookout, herald, clock, monkeypatch):
    lookout.look(status(["north"]))
    monkeypatch.setattr("tests.server.test_lookout.ADMITTED", ())
    clock.now = 2 * LOST_S
    lookout.look(status())
    assert herald.told == []


def test_certificates_that_end_soon_are_told(lookout, herald):
    lookout.look_at_certificates(
        [Finding("ok", "server.crt", "700 days"), Finding("note", "ca.crt", "ends in 20 days; run …")]
    )
    assert [key for key, *_ in herald.told] == ["certificate ca.crt"]
