"""Runs that are disturbed: plans with rounds long enough for a kill, and what is looked at."""

import numpy as np

from common.plan import Training
from tests.helpers.plans import deployed_plan
from tests.helpers.warm import children_of

NAMES = ["site-1", "site-2", "site-3"]


def slow_plan(**changes):
    """Rounds of about a second, so that a kill falls into one."""
    training = Training(batch_size=2, epochs=12, learning_rate=0.05)
    return deployed_plan(**{"rounds": 4, "training": training, **changes})


def training_round(deployment, name, number):
    """Whether the site has let in the request to train round `number`."""
    entries = deployment.audit(name)
    asked = {
        e["message"]
        for e in entries
        if e["event"] == "received" and e.get("round") == str(number) and e["kind"] == "train"
    }
    return any(e["event"] == "admitted" and e["message"] in asked for e in entries)


def same(found, expected):
    return found.keys() == expected.keys() and all(np.array_equal(found[k], expected[k]) for k in expected)


def worker_of(deployment, name):
    """The process that trains for a site's agent."""
    (worker,) = children_of(deployment.processes[name].pid)
    return worker
