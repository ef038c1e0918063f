"""Which method does what at a site: by the plan's name, and plain training for all that have no part of their own."""

import numpy as np
import pytest

from client.methods import TRAINERS, personal_weights, train_site
from client.methods.memory import SiteMemory
from client.methods.task import Task
from common import wire
from common.methods import METHODS
from common.models import build_model
from tests.helpers.cohorts import CPU
from tests.helpers.site_rounds import plan_of


@pytest.mark.parametrize("name", sorted(METHODS.keys() - TRAINERS.keys()))
def test_methods_that_differ_at_the_server_alone_train_plainly(cohort, name):
    update = {}
    for method in ("FedAvg", name):
        plan = plan_of(method)
        model = build_model(plan)
        start = wire.get_weights(model)
        task = Task(model, cohort, plan, "here", 1, CPU, start, SiteMemory(None))  # it keeps nothing
        update[method] = train_site(task)[1]
    assert all(np.array_equal(update["FedAvg"][n], update[name][n]) for n in update["FedAvg"])


def test_nothing_is_taken_from_memory_that_the_method_did_not_put_there(tmp_path):
    memory = SiteMemory(tmp_path)
    memory.keep(1, {"head.0.bias": np.ones(8, np.float32)})
    for name, own in (("FedAvg", set()), ("SCAFFOLD", set()), ("FedPer", {"head.0.bias"})):
        plan = plan_of(name)
        assert personal_weights(plan, build_model(plan), memory, 2).keys() == own
    assert personal_weights(plan_of("FedPer"), build_model(plan_of("FedPer")), memory, 1) == {}
