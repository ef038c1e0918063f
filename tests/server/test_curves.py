"""history.csv is there after the first round, whole after each, and the same after a run that was cut off."""

import csv

import pytest
from flwr.app import Error, Message

from common import wire
from common.errors import RunError
from common.plan import Federation
from server.checkpoint import load_checkpoint
from server.curves import FILE, Recorded, history_csv
from server.observer import Silent
from server.rounds import RoundLoop
from tests.helpers.grids import SCHEMA, START, ScriptedGrid, reply, update
from tests.helpers.plans import small_plan

PLAN = small_plan(rounds=4, federation=Federation(quorum=0.4))


def answers(node, message):
    number = wire.get_round(message.content)
    if (node, number) == (5, 2):
        return Message(Error(wire.SITE_CRASHED, "away"), reply_to=message)
    return reply(message, update(node, number))


def rows_of(folder):
    with (folder / FILE).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


class Looks(Silent):
    """Reads the file after each round; ends the run after round `last`."""

    def __init__(self, folder, last=99):
        self.folder, self.last, self.seen = folder, last, []

    def finished_round(self, report):
        self.seen.append([(int(row["round"]), row["site"]) for row in rows_of(self.folder)])
        if report.round == self.last:
            raise RunError("stopped")


def run(folder, watch, before=()):
    return RoundLoop(
        ScriptedGrid(answers), PLAN, SCHEMA, folder, Recorded(watch, folder, "federated", {}, before)
    ).run(START)


def test_each_round_stands_in_it_when_it_is_over(tmp_path):
    watch = Looks(tmp_path)
    run(tmp_path, watch)
    sites = [f"site-{k}" for k in range(1, 6)]
    expected = [(k, s) for k in range(1, 5) for s in sites if (k, s) != (2, "site-5")]
    assert watch.seen == [[pair for pair in expected if pair[0] <= k] for k in range(1, 5)]
    (first, *_) = rows_of(tmp_path)
    assert first["arm"] == "federated"
    assert float(first["train_loss"]) == 1.0
    assert float(first["validation_auroc"]) == 0.5
    assert float(first["update_norm"]) == pytest.approx(wire.l2_norm(update(1, 1)), rel=1e-6)


def test_a_run_that_was_cut_off_ends_with_the_same_rows(tmp_path):
    run(tmp_path / "whole", Looks(tmp_path / "whole"))
    with pytest.raises(RunError, match="stopped"):
        run(tmp_path / "cut", Looks(tmp_path / "cut", last=2))
    before = load_checkpoint(tmp_path / "cut", PLAN.sha256).history
    run(tmp_path / "cut", Looks(tmp_path / "cut"), before)
    assert rows_of(tmp_path / "cut") == rows_of(tmp_path / "whole")


def test_arms_that_are_done_stand_before_it(tmp_path):
    done = run(tmp_path / "a", Silent()).history
    recorded = Recorded(Silent(), tmp_path, "centralised", {"federated": done})
    recorded.finished_round(done[0])
    assert [row["arm"] for row in rows_of(tmp_path)] == ["federated"] * 19 + ["centralised"] * 5
    assert (tmp_path / FILE).read_text() == history_csv({"federated": done, "centralised": done[:1]})
