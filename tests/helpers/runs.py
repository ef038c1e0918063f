"""Runs to look at: what a server leaves of one, and the simulation of a deployment."""

import json

import torch
from safetensors.numpy import save_file

from client.app import app as client_app
from common import wire
from common.config import dump_yaml
from common.handover import MODEL
from common.models import build_model
from server.rounds import RoundLoop, Silent
from simulation.grid import SequentialGrid
from tests.helpers.plans import small_plan


def deployed_run(folder, plan=None):
    """What the server leaves of a finished run."""
    plan = plan or small_plan()
    folder.mkdir(parents=True)
    (folder / "plan.yaml").write_text(dump_yaml(plan))
    save_file(wire.get_weights(build_model(plan)), folder / MODEL)
    site = {"num-examples": 20, "loss": 0.4, "auroc": 0.9, "auroc-se": 0.02, "brier": 0.1}
    evaluation = {
        "auroc": 0.9,
        "auroc-se": 0.02,
        "brier": 0.1,
        "temperature": 1.4,
        "sites": {"st-mary": site},
        "failed": {},
    }
    (folder / "history.json").write_text(
        json.dumps([{"round": 1, "sites": {"st-mary": {}, "st-john": {}}, "evaluation": evaluation}])
    )
    (folder / "survey.json").write_text(
        json.dumps({"sites": {"st-mary": {"n-train": 80.0}, "st-john": {"n-train": None}}})
    )
    (folder / "run.json").write_text(json.dumps({"run": "abc123", "state": "finished"}))
    return folder


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
