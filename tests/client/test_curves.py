"""A site's own curves: its numbers by round, none of a refusal, and no trouble of a board costs a round."""

import contextlib

import pytest
from flwr.app import ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from client import curves
from client.curves import OwnCurves
from common import wire


class Board(list):
    """Takes what it is given."""

    def put(self, numbers, step):
        self.append((step, dict(numbers)))


@pytest.fixture(autouse=True)
def of_a_run():
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1


@pytest.fixture
def opened(monkeypatch):
    """Name -> the boards that were opened under it."""
    found = {}

    @contextlib.contextmanager
    def open_boards(kinds, folder, run, facts, done=0):
        found.setdefault(run, []).append((done, board := Board()))
        yield [board]

    monkeypatch.setattr(curves, "open_boards", open_boards)
    return found


def pair(kind, number, run="r1", error=False, **numbers):
    about = ConfigRecord({wire.RUN: run, wire.ROUND: number})
    request = Message(RecordDict({wire.CONFIG: about}), 1, kind)
    if error:
        return request, Message(Error(101, "no"), reply_to=request)
    return request, Message(RecordDict({wire.METRICS: MetricRecord(numbers)}), reply_to=request)


def test_each_round_stands_under_what_was_done(tmp_path, opened):
    own = OwnCurves(tmp_path)
    own.put(["mlflow"], *pair("train", 3, loss=0.5))
    own.put(["mlflow"], *pair("evaluate", 3, auroc=0.8))
    own.put(["mlflow"], *pair("query", 1, n=3))
    own.put(["mlflow"], *pair("train", 4, error=True))
    ((done, board),) = next(iter(opened.values()))
    assert done == 2  # an agent that started in round 3 goes on
    assert board == [(3, {"train/loss": 0.5}), (3, {"validation/auroc": 0.8})]


def test_another_run_has_other_boards_and_its_name_is_no_path(tmp_path, opened):
    own = OwnCurves(tmp_path)
    for run in ("r1", "../../etc", "r1"):
        own.put(["mlflow"], *pair("train", 1, run, loss=0.5))
    assert len(opened) == 2
    assert all(name.isalnum() for name in opened)
    own.close()


def test_without_a_kind_nothing_is_opened(tmp_path, opened):
    OwnCurves(tmp_path).put([], *pair("train", 1, loss=0.5))
    assert opened == {}


def test_boards_that_cannot_be_opened_are_said_once_and_cost_nothing(tmp_path, monkeypatch, caplog):
    def breaks(*_, **__):
        raise OSError(28, "No space left on device, Jane Doe")

    monkeypatch.setattr(curves, "open_boards", breaks)
    own = OwnCurves(tmp_path)
    for number in (1, 2, 3):
        own.put(["mlflow"], *pair("train", number, loss=0.5))
    own.close()
    assert [record.getMessage() for record in caplog.records] == ["curves are not written: OSError"]
