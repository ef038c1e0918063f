"""What is handed over at the end of a run, also of one that ended twice."""

from types import SimpleNamespace

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict

from common import wire
from common.results.final import answer_text, read_final
from common.results.rounds import RoundReport
from common.results.survey import read_survey
from server import federate, final
from server.checkpoint import Checkpoint, save_checkpoint
from server.roster import Deployment
from tests.helpers.grids import START, ScriptedGrid
from tests.helpers.plans import small_plan
from tests.helpers.results import final_answer

PLAN = small_plan(
    rounds=4, evaluation={"final": True, "alone": True, "cross": 2}, federation={"deadline_s": 0.5}
)


class KilledError(BaseException):
    """In place of kill -9."""


def tells(content):
    return RecordDict({wire.CONFIG: ConfigRecord({wire.FINAL: answer_text(content)})})


def hand_over(folder, n_present, dies):
    """The end of a run, with so many of its three sites there; it dies while models go round."""

    def answer(node, message):
        kind = message.metadata.message_type
        if kind == wire.EVALUATE_FINAL:
            return Message(tells(final_answer(alone=True)), reply_to=message)
        if dies:
            raise KilledError
        numbers = {wire.N_EXAMPLES: 80} | ({} if kind == wire.EVALUATE_OWN else {wire.AUROC: 0.5})
        told = RecordDict({wire.METRICS: MetricRecord(numbers)})
        if kind == wire.EVALUATE_OWN:
            told[wire.ARRAYS] = wire.pack({name: np.full_like(w, node) for name, w in START.items()})
        return Message(told, reply_to=message)

    (folder / federate.FIRST).write_bytes(b"")  # as `resume` makes it
    grid = ScriptedGrid(answer, 3)
    nodes = list(grid.get_node_ids())[:n_present]
    grid.get_node_ids = lambda: nodes
    watch = SimpleNamespace(gathering=lambda *_: None)
    federate._hand_over(folder, PLAN, grid, Deployment("a run", 3, 0.2), watch)


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(final, "GRACE_S", 0.2)
    numbers = {f"site-{k}": dict.fromkeys(wire.TRAIN_NUMBERS, 1.0) for k in (1, 2, 3)}
    history = tuple(
        RoundReport(round=r + 1, bytes_down=0, bytes_up=0, sites=numbers, failed={}) for r in range(4)
    )
    save_checkpoint(tmp_path, Checkpoint(4, START, history=history), PLAN.sha256)
    return tmp_path


def test_final_scores_outlive_a_server_that_is_killed_while_models_go_round(run):
    with pytest.raises(KilledError):
        hand_over(run, 3, dies=True)
    before = read_final(run)
    assert sorted(before.sites) == ["site-1", "site-2", "site-3"]
    hand_over(run, 2, dies=False)  # one went away meanwhile
    after = read_final(run)
    assert (after.sites, after.silent) == (before.sites, {})
    assert {owner: sorted(by) for owner, by in after.crossed.auroc.items()} == {
        "site-1": ["site-2"],
        "site-2": ["site-1"],
    }
    assert after.crossed.silent == {"site-3": "it went away after its final scores"}
    assert sorted(read_survey(run).sites) == ["site-1", "site-2", "site-3"]


def test_who_trained_and_is_gone_at_the_end_is_named(run):
    hand_over(run, 2, dies=False)
    assert read_final(run).silent == {"site-3": "it was not there at the end"}
