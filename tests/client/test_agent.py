"""The agent with a link that is only played: what becomes of a request whose answer its own disk does not
take."""

import math
import subprocess
import sys
import threading

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from client import agent as module
from client.agent import Agent
from client.governance.approval import Approvals
from client.provision import init_site, join
from client.settings import Hospital, SiteFolder
from common import wire
from common.audit import AuditLog, read_entries
from common.errors import LinkError
from common.monitoring import Monitoring
from common.trust import Trust
from server.provision import admit, init_server
from server.settings import ServerFolder, ServerSettings
from tests.helpers.plans import small_plan


@pytest.fixture
def folder(tmp_path):
    server = ServerFolder(tmp_path / "server")
    init_server(server, ServerSettings(host="127.0.0.1"))
    folder = SiteFolder(tmp_path / "site-1")
    init_site(folder, Hospital(server="127.0.0.1:1"), server.ca_certificate)
    join(folder, admit(server, "site-1", folder.request))
    return folder


class OneRequest:
    """A link that has one request to give and ends the agent once that is answered, or asked for more often
    than `patience`."""

    def __init__(self, request):
        self.node, self.lost, self.ended = request.metadata.dst_node_id, threading.Event(), None
        self.requests, self.sent, self.patience = [request], [], 20

    def connect(self): ...

    def close(self): ...

    def trust(self):
        return Trust()

    def waiting(self):
        return []

    def receive(self, tensor_bytes, wait_s):
        self.patience -= 1
        if self.patience == 0:
            self.ended.set()
        return self.requests.pop() if self.requests else None

    def send(self, reply):
        self.sent.append(reply)
        self.ended.set()


def serve(folder, monkeypatch, ttl, kind="train.unknown", content=None, link_of=OneRequest):
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
    request = Message(content or RecordDict(), 1, kind, ttl=ttl)
    request.metadata.__dict__["_message_id"] = "m"
    monkeypatch.setattr(module, "RETRY_S", 0.05)
    monkeypatch.setattr(module, "POLLS", ((math.inf, 0.01),))
    link = link_of(request)
    agent = Agent(folder, link, Monitoring("test", None, None))
    link.ended = agent.ended
    agent.run()
    return link


def full_for(monkeypatch, entries):
    """The audit log takes nothing for the next so many entries."""
    add, left = AuditLog.add, [entries]

    def failing(self, event, **about):
        if left[0] > 0:
            left[0] -= 1
            raise OSError(28, "No space left on device", "audit.log")
        add(self, event, **about)

    monkeypatch.setattr(AuditLog, "add", failing)


def test_a_request_that_the_disk_did_not_take_is_answered_when_it_does(folder, monkeypatch):
    full_for(monkeypatch, 3)
    link = serve(folder, monkeypatch, ttl=60.0)
    assert [r.error.reason for r in link.sent] == [
        "found a message of type 'train.unknown', this site answers evaluate, evaluate.final, "
        "evaluate.other, evaluate.own, query, train, train.agree, train.keys, train.shares, train.unmask"
    ]
    assert [e.event for e in read_entries(folder.audit)] == ["received", "refused"]


def test_a_request_that_nobody_waits_for_any_more_when_there_is_space_is_given_up(folder, monkeypatch):
    full_for(monkeypatch, 3)
    link = serve(folder, monkeypatch, ttl=0.08)
    assert link.sent == []
    assert [(e.event, e.facts["why"]) for e in read_entries(folder.audit)] == [
        ("abandoned", "the round's deadline is over")
    ]


def test_what_is_denied_while_the_line_is_down_is_not_sent_when_it_is_back(folder, monkeypatch):
    plan = small_plan()
    approvals = Approvals(folder.plans)
    approvals.propose(plan.model_dump(mode="json"), plan.sha256)
    approvals.approve(plan.sha256)
    update = {
        name: np.ones(shape, np.float32) for name, shape in approvals.schema(plan.sha256).shapes.items()
    }
    numbers = MetricRecord({"num-examples": 50, "loss": 0.5, "steps": 4, "seconds": 1.0})

    def work(self, admitted, settings, end):
        return Message(
            RecordDict({"arrays": wire.pack(update), "metrics": numbers}), reply_to=admitted.request
        )

    class BrokenLine(OneRequest):
        def send(self, reply):
            if not self.sent:
                self.sent.append(reply)
                approvals.deny(plan.sha256)
                raise LinkError("the line is down")
            super().send(reply)

    monkeypatch.setattr(Agent, "_work", work)
    about = ConfigRecord({"plan-sha256": plan.sha256, "run": "r1", "server-round": 1})
    content = RecordDict({"arrays": wire.pack(update), "config": about})
    link = serve(folder, monkeypatch, 60.0, "train", content, BrokenLine)
    assert [reply.has_error() for reply in link.sent] == [False, True]
    assert [entry.event for entry in read_entries(folder.audit)][-2:] == ["sent", "refused"]


@pytest.mark.slow
def test_an_agent_does_without_torch_and_a_worker_without_pydicom():
    """Seconds of every start, and half a gigabyte of every agent that waits."""
    heavy = {"torch", "scipy"}
    for started, spared in (("client.agent", heavy), ("client.app", {"pydicom"}), ("server.serve", heavy)):
        code = f"import sys, {started}; print(*{spared} & sys.modules.keys())"
        done = subprocess.run([sys.executable, "-c", code], timeout=120, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, "\n"), (started, done.stdout)


def test_the_days_that_are_left_are_told_while_the_server_is_away(folder):
    monitoring = Monitoring("test", None, None)
    Agent(folder, None, monitoring)
    assert monitoring.registry.get_sample_value("pneumofed_certificate_days_left") > 300


def test_a_decision_that_cannot_be_read_is_said_in_the_log(folder, caplog):
    approvals, plan = Approvals(folder.plans), small_plan()
    approvals.propose(plan.model_dump(mode="json"), plan.sha256)
    approvals.approve(plan.sha256)
    (approvals.plan_file(plan.sha256).parent / "decision.json").write_text("{")
    Agent(folder, None, Monitoring("test", None, None))._tell_pending()
    assert "decision.json: is no decision" in caplog.text
