import json
import multiprocessing
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from flwr.app import ConfigRecord, Error, Message, MetricRecord, RecordDict

from client.worker import Worker, answer, make_context, receive, send
from common import wire
from tests.helpers.apps import fake_app
from tests.helpers.deployment import wait_for

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_worker_runs_the_installed_app_and_its_death_is_an_answer(tmp_path):
    from flwr.supercore.task_identity import TaskIdentity

    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
    worker = Worker("tests.helpers.apps:fake_app", {7: {}}, 1)
    try:
        for do, said in (("die", "ended with code 3"), ("5", "ended with code 3")):
            message = Message(RecordDict({"config": ConfigRecord({"do": do})}), 7, "query")
            message.metadata.__dict__["_message_id"] = do
            worker.give(do, message)
            (reply,) = wait_for("the answer", lambda: worker.take(0.1))
            assert said in reply.error.reason
            assert reply.error.code == wire.SITE_CRASHED
        assert not worker.alive
    finally:
        worker.stop()


def test_a_message_goes_through_a_pipe_as_it_is(tmp_path):
    from flwr.supercore.task_identity import TaskIdentity

    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
    weights = {"a": np.arange(300_000, dtype=np.float32), "b": np.zeros((0, 3), np.float32)}
    arrays, config = wire.pack(weights), ConfigRecord({"round": 3})
    content = RecordDict({"config": config, "arrays": arrays, "m": MetricRecord({"x": 0.5})})
    message = Message(content, 7, "train", ttl=9.0)
    message.metadata.__dict__["_message_id"] = "m1"
    ours, theirs = multiprocessing.Pipe()
    sender = threading.Thread(
        target=lambda: [send(theirs, m) for m in (message, Message(Error(1, "no"), reply_to=message))]
    )
    sender.start()
    found, error = receive(ours), receive(ours)
    sender.join()
    assert found.object_id == message.object_id
    assert list(found.content) == list(content)
    assert found.content["arrays"][wire.PACKED].data == arrays[wire.PACKED].data
    assert (found.metadata.ttl, found.metadata.message_id) == (9.0, "m1")
    assert found.metadata.dst_node_id == 7
    assert message.content["arrays"][wire.PACKED].data  # the sender's own is untouched
    assert (error.error.code, error.metadata.reply_to_message_id) == (1, "m1")
    theirs.close()
    with pytest.raises(EOFError):
        receive(ours)


def test_what_nobody_foresaw_is_told_by_kind_and_place_not_by_its_words():
    from flwr.supercore.task_identity import TaskIdentity

    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
    message = Message(RecordDict({"config": ConfigRecord({"do": "break"})}), 7, "query")
    message.metadata.__dict__["_message_id"] = "m"
    reply = answer(fake_app, message, make_context(7, {}))
    assert reply.error.code == wire.SITE_CRASHED
    assert reply.error.reason.startswith("RuntimeError in query, raised in ")
    assert "apps.py:" in reply.error.reason
    assert "4711" not in reply.error.reason


@pytest.mark.slow
def test_the_worker_of_a_service_writes_no_words_of_others_either(tmp_path):
    """To the journal, where its standard error goes."""
    (tmp_path / "service.py").write_text(SERVICE)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "service.py")],
        cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    line = json.loads(done.stderr.splitlines()[-1])
    assert (line["exception"], line["message"]) == ("RuntimeError", "failed in query")
    assert "4711" not in done.stderr + done.stdout


SERVICE = """
from pathlib import Path
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from client.worker import Worker
from common.logs import set_up_logs

if __name__ == "__main__":
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
    set_up_logs(Path("logs"), "agent")
    worker = Worker("tests.helpers.apps:fake_app", {7: {}}, 1)
    message = Message(RecordDict({"config": ConfigRecord({"do": "break"})}), 7, "query")
    message.metadata.__dict__["_message_id"] = "m"
    worker.give("m", message)
    while not (replies := worker.take(1.0)):
        pass
    print(replies[0].error.reason)
    worker.stop()
"""
