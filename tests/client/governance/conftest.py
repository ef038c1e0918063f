"""A gate, and one that has approved a plan."""

import pytest
from flwr.supercore.task_identity import TaskIdentity

from client.governance.approval import Approvals
from client.governance.gate import Gate
from common.audit import AuditLog
from tests.helpers.gate_messages import PLAN


@pytest.fixture(autouse=True)
def run():
    """Flower's messages belong to one."""
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1


@pytest.fixture
def approvals(tmp_path):
    return Approvals(tmp_path / "plans")


@pytest.fixture
def gate(tmp_path, approvals):
    return Gate(
        approvals, AuditLog(tmp_path / "audit.log"), lambda plan: "a cohort", tmp_path / "ledger.sqlite"
    )


@pytest.fixture
def approved(gate, approvals):
    approvals.propose(PLAN.model_dump(mode="json"), PLAN.sha256)
    approvals.approve(PLAN.sha256)
    return gate
