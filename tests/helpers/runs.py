"""Runs to look at: what a server leaves of one, and the simulation of a deployment."""

import torch
from safetensors.numpy import save_file

from client.app import app as client_app
from common import wire
from common.config import dump_yaml
from common.handover import MODEL
from common.models import build_model
from common.results.rounds import Evaluation, RoundReport, write_history
from common.results.status import RunRecord, write_record
from common.results.survey import Survey, write_survey
from server.observer import Silent
from server.rounds import RoundLoop
from simulation.grid import SequentialGrid
from tests.helpers.plans import small_plan


def deployed_run(folder, plan=None):
    """What the server leaves of a finished run."""
    plan = plan or small_plan()
    folder.mkdir(parents=True)
    (folder / "plan.yaml").write_text(dump_yaml(plan))
    save_file(wire.get_weights(build_model(plan)), folder / MODEL)
    site = {"num-examples": 20, "loss": 0.4, "auroc": 0.9, "auroc-se": 0.02, "brier": 0.1}
    evaluation = Evaluation(
        loss=0.4, auroc=0.9, brier=0.1, temperature=1.4, auroc_se=0.02, sites={"st-mary": site}, failed={}
    )
    sites: dict[str, dict[str, float]] = {"st-mary": {}, "st-john": {}}
    report = RoundReport(round=1, bytes_down=0, bytes_up=0, sites=sites, failed={}, evaluation=evaluation)
    write_history(folder, [report])
    numbers = dict.fromkeys(wire.query_numbers(plan.findings), 80.0)
    told = {"st-mary": numbers, "st-john": {**numbers, wire.N_TRAIN: float("nan")}}
    write_survey(folder, Survey.of(told, plan.findings))
    write_record(folder, RunRecord(run="abc123", min_sites=2, started="", state="finished"))
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
            "memory": str(tmp_path / "memory" / name),
        }
        for name in names
    ]
    if plan.aggregation.secure:
        sites = [deployment.site(name) for name in names]  # they round by their keys
        nodes = [
            {**node, "identity": str(site.identity), "peers": str(site.peers)}
            for node, site in zip(nodes, sites, strict=True)
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
