"""Simulation and deployment are one program: the same weights, bit for bit."""

import numpy as np

from tests.helpers.plans import deployed_plan
from tests.helpers.runs import simulated


def test_three_sites_on_loopback_end_with_the_weights_of_the_simulation(deployment, tmp_path):
    plan = deployed_plan(rounds=3)
    d = deployment(3, plan)
    names = ["site-1", "site-2", "site-3"]
    d.up(*names)
    name = d.run()
    history = d.wait_finished(name)
    assert [sorted(report["sites"]) for report in history] == [names] * 3
    expected, found = simulated(d, plan, tmp_path, names), d.weights(name)
    assert expected.keys() == found.keys()
    assert all(np.array_equal(expected[k], found[k]) for k in expected)
