"""Flower's own simulation on Ray: its FedAvg, one virtual client a site. `python flower_ray.py JOB WORK`."""

import logging
import sys
from pathlib import Path
from typing import Any

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from job import Job, finished, round_ended, train

JOB, WORK = Job(Path(sys.argv[1])), Path(sys.argv[2])
client, server = ClientApp(), ServerApp()


@client.train()
def fit(message: Message, context: Context) -> Message:
    """One site's part of a round."""
    torch.set_num_threads(1)
    model = JOB.model()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())  # type: ignore[union-attr]
    site = JOB.sites[int(context.node_config["partition-id"])]
    n = train(model, site, JOB.plan, int(message.content["config"]["server-round"]))  # type: ignore
    content = {"arrays": ArrayRecord(model.state_dict()), "metrics": MetricRecord({"num-examples": n})}
    return Message(RecordDict(content), reply_to=message)  # type: ignore[arg-type]


class Watched(FedAvg):
    """Notes when a round ended."""

    def aggregate_train(self, *a: Any, **k: Any) -> Any:
        """As Flower's."""
        result = super().aggregate_train(*a, **k)
        round_ended(WORK)
        return result


@server.main()
def serve(grid: Grid, context: Context) -> None:
    """All rounds."""
    strategy = Watched(
        fraction_evaluate=0.0, min_train_nodes=len(JOB.sites), min_available_nodes=len(JOB.sites)
    )
    result = strategy.start(
        grid, ArrayRecord(JOB.model().state_dict()), num_rounds=JOB.plan.rounds, train_config=ConfigRecord()
    )
    finished(WORK, result.arrays.to_torch_state_dict())


if __name__ == "__main__":
    logging.getLogger("flwr").setLevel(logging.WARNING)
    one = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}, "init_args": {"num_cpus": 1}}
    run_simulation(server, client, len(JOB.sites), backend_config=one)  # type: ignore[arg-type]
