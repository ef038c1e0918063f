"""Who is in: greeted by name, once each, and asked again with patience where somebody refused."""

import time

import pytest
from flwr.app import ConfigRecord, Error, Message, MetricRecord, RecordDict

from common import wire
from server import roster as module
from server.roster import Deployment, Members, Roster, collect
from tests.helpers.grids import ScriptedGrid
from tests.helpers.plans import small_plan

PLAN = small_plan()


class Named(ScriptedGrid):
    """Sites that call themselves what they like, or refuse."""

    def __init__(self, names):
        super().__init__(None, n_sites=len(names))
        self.called, self.asked, self.device = names, [], "cpu"

    def push_messages(self, messages):
        self.asked += [m.metadata.dst_node_id for m in messages]
        return super().push_messages(messages)

    def pull_messages(self, message_ids):
        if not self.waiting:
            return []
        message = self.waiting.pop()
        name = self.called[message.metadata.dst_node_id - 1]
        if name is None:
            return []
        if isinstance(name, Error):
            return [Message(name, reply_to=message)]
        numbers = MetricRecord({wire.N_EXAMPLES: 10, **dict.fromkeys(wire.query_numbers(PLAN.findings), 10)})
        texts = ConfigRecord({wire.SITE: name, wire.DEVICE: self.device})
        return [Message(RecordDict({wire.CONFIG: texts, wire.METRICS: numbers}), reply_to=message)]


def test_sites_are_greeted_once_and_present_by_name():
    grid, roster = Named(["west", "north", "east"]), Roster()
    roster.greet(grid, PLAN)
    roster.greet(grid, PLAN)
    assert sorted(grid.asked) == [1, 2, 3]  # nobody twice
    assert [roster.name(node) for node in roster.present(grid)] == ["east", "north", "west"]
    assert roster.declared["west"][wire.DEVICE] == "cpu"
    assert roster.name(77) == "node 77"


def test_two_of_one_name_and_a_name_that_was_not_admitted_are_not_let_in():
    roster = Roster()
    roster.greet(Named(["north", "north"]), PLAN)
    assert len(roster.names) == 1
    assert list(roster.refused.values()) == ["two sites call themselves north"]
    roster = Roster(Deployment(site_of={1: "north", 2: "south"}.get))
    roster.greet(Named(["north", "north"]), PLAN)
    assert roster.names == {1: "north"}
    assert roster.refused == {"south": "the site admitted as south calls itself north"}


def test_a_site_whose_admission_was_taken_back_meanwhile_takes_nobody_s_name():
    roster = Roster(Deployment(site_of={2: "south"}.get))
    roster.greet(Named(["south", "south"]), PLAN)
    assert roster.names == {2: "south"}
    assert roster.refused == {"node 1": "its admission was taken back"}


def test_a_device_is_shown_as_it_may_be():
    grid, roster = Named(["north"]), Roster()
    grid.device = "\x1b[2J\u202egpj.exe"
    roster.greet(grid, PLAN)
    assert roster.declared["north"][wire.DEVICE] == "\\x1b[2J\\u202egpj.exe"


def test_who_takes_long_to_refuse_is_not_asked_again_at_once(monkeypatch):
    monkeypatch.setattr(module, "ASK_AGAIN_S", (0.0, 60.0))
    grid, roster = Named([Error(wire.SITE_REFUSES, "no")]), Roster()
    pull = grid.pull_messages
    monkeypatch.setattr(grid, "pull_messages", lambda ids: (time.sleep(0.3), pull(ids))[1])
    roster.greet(grid, PLAN)
    roster.greet(grid, PLAN)
    assert grid.asked == [1]


def test_who_refused_is_asked_again_later_and_later_and_forgiven(monkeypatch):
    monkeypatch.setattr(module, "ASK_AGAIN_S", (0.2, 60.0))
    grid, roster = Named([Error(wire.SITE_REFUSES, "plan 12 awaits approval")]), Roster()
    roster.greet(grid, PLAN)
    roster.greet(grid, PLAN)
    assert grid.asked == [1]  # not at once
    assert "plan 12 awaits approval" in str(roster.shortage(0, 1))
    assert "0 sites can take part, 1 are needed" in str(roster.shortage(0, 1))
    time.sleep(0.25)
    grid.called = ["north"]
    roster.greet(grid, PLAN)
    assert roster.names == {1: "north"}
    assert roster._ask_again[1][1] == pytest.approx(0.4)


def test_who_does_not_answer_the_greeting_holds_up_the_others_once(monkeypatch):
    monkeypatch.setattr(module, "GREET_S", 0.2)
    grid, roster = Named([None, "north"]), Roster(Deployment(site_of={1: "west", 2: "north"}.get))
    roster.greet(grid, PLAN)
    assert roster.names == {2: "north"}
    assert roster.refused == {"west": module.NO_ANSWER}
    began = time.monotonic()
    for _ in range(5):
        roster.greet(grid, PLAN)
    assert grid.asked.count(1) == 1
    assert time.monotonic() - began < 0.2
    roster._ask_again[1] = (0.0, 2.0)
    grid.called = ["west", "north"]
    roster.greet(grid, PLAN)
    assert (roster.names[1], roster.refused) == ("west", {})


def test_replies_are_collected_until_the_deadline_and_carry_it():
    grid = ScriptedGrid(lambda node, message: Message(RecordDict(), reply_to=message), silent=(2,))
    messages = [Message(RecordDict(), node, "train") for node in (1, 2, 3)]
    started = time.monotonic()
    assert sorted(node for node, _ in collect(grid, messages, 0.3)) == [1, 3]
    assert 0.25 < time.monotonic() - started < 5
    assert all(m.metadata.ttl == 0.3 for m in messages)


def test_members_are_a_copy_of_what_they_were_given():
    nodes = [3, 1]
    members = Members(nodes)
    nodes.append(9)
    members.get_node_ids().append(7)
    assert members.get_node_ids() == [3, 1]


def test_a_simulation_waits_as_long_as_its_machine_takes():
    plan = small_plan(federation={"deadline_s": 0.5})
    assert (Deployment().deadline_s(plan), Deployment().greet_s(plan)) == (0.5, 0.5)
    simulated = Deployment(everybody=True, timed=False)
    assert simulated.deadline_s(plan) == simulated.greet_s(plan) > 1e7
