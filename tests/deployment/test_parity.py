"""Simulation and deployment are one program: the same weights, bit for bit."""

import numpy as np
import torch

from client.app import app as client_app
from common import wire
from common.models import build_model
from server.rounds import RoundLoop, Silent
from simulation.grid import SequentialGrid
from tests.deployment.conftest import deployed_plan


def simulated(deployment, plan, tmp_path, names):
    """The weights of a simulation over the deployment's own cohorts, with the threads that its agents
    have."""
    plan_file = deployment.write_plan(plan)
    nodes = [
        {
            "site": name,
            "cohorts": str(deployment.site(name).cohort(plan)),
            "plan": str(plan_file),
            "device": "cpu",
        }
        for name in names
    ]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model = build_model(plan)
        loop = RoundLoop(
            SequentialGrid(client_app, nodes), plan, wire.Schema.of(model), tmp_path / "simulated", Silent()
        )
        return loop.run(wire.get_weights(model)).weights
    finally:
        torch.set_num_threads(threads)


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
