import multiprocessing
import threading

import numpy as np
import pytest
from flwr.app import ConfigRecord, Error, Message, MetricRecord, RecordDict

from client.worker import Worker, receive, send
from common import wire
from tests.helpers.deployment import wait_for


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
