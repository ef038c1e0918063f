"""Curves as TensorBoard's and MLflow's own readers find them; nothing is sent, a resumed run goes on in its own."""

import math
import socket
import sys

import pytest

from common import boards
from common.boards import FILE, open_boards
from common.errors import ConfigError

FACTS = {"plan_sha256": "0" * 64}


def write(kind, folder, rounds, done=0):
    with open_boards([kind], folder, "federated", FACTS, done) as (board,):
        for k in rounds:
            board.put({"validation/auroc": k / 10, "train/loss": math.nan}, k)


def tensorboard(folder):
    """(step, value) of the AUROC, and what else there is."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard" / "federated"))
    events.Reload()
    return [(e.step, round(e.value, 6)) for e in events.Scalars("validation/auroc")], events.Tags()["scalars"]


def mlflow(folder):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{folder / FILE}")
    (run,) = client.search_runs([client.get_experiment_by_name("pneumofed").experiment_id])
    assert run.data.params == FACTS
    assert run.info.status == "FINISHED"
    history = client.get_metric_history(run.info.run_id, "validation/auroc")
    return [(m.step, m.value) for m in history], list(run.data.metrics)


@pytest.fixture
def nobody_is_called(monkeypatch):
    def refuse(self, address):
        raise AssertionError(f"a call to {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "read"), [("tensorboard", tensorboard), ("mlflow", mlflow)])
def test_its_own_reader_finds_each_round_once_after_a_resume_too(tmp_path, nobody_is_called, kind, read):
    write(kind, tmp_path, [1, 2])
    write(kind, tmp_path, [3], done=2)
    found, names = read(tmp_path)
    assert found == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert names == ["validation/auroc"]  # what is not defined is no point


def test_a_missing_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with (
        pytest.raises(ConfigError, match=r"tensorboardX is not installed; .*uv sync --extra tensorboard"),
        open_boards(["tensorboard"], tmp_path, "federated", FACTS),
    ):
        pass


def test_without_any_nothing_is_written(tmp_path):
    with open_boards([], tmp_path / "curves", "federated", FACTS) as boards:
        assert boards == []
    assert not (tmp_path / "curves").exists()


def test_a_board_that_breaks_ends_its_curves_and_nothing_else(tmp_path, monkeypatch, caplog):
    class Breaks:
        def put(self, numbers, step):
            raise OSError(28, "No space left on device, Jane Doe")

        def close(self):
            raise ValueError("closed already")

    monkeypatch.setattr(boards, "_open", lambda *_: Breaks())
    with open_boards(["mlflow"], tmp_path, "federated", FACTS) as (board,):
        for number in (1, 2, 3):
            board.put({"train/loss": 0.5}, number)
    said = [record.getMessage() for record in caplog.records]
    assert said[0] == "curves for mlflow are not written any more: OSError"
    assert len(said) == 2  # and that it could not be closed
    assert "Jane" not in caplog.text
