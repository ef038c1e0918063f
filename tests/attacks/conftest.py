"""The curious server's site."""

import pytest
from flwr.supercore.task_identity import TaskIdentity

from tests.helpers.gates import Site


@pytest.fixture
def site(tmp_path):
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
    return Site(tmp_path)
