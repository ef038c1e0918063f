import pytest
from flwr.app import ConfigRecord, Message, RecordDict

from client.worker import Worker
from common import wire
from tests.helpers.deployment import wait_for

pytestmark = pytest.mark.slow


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
