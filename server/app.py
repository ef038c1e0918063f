"""The Flower ServerApp: one federated run of one plan.

Run configuration: `plan` (the plan's file), `out` (where the checkpoint goes), and `pretrained` if the plan
names such a file.
"""

from pathlib import Path

import numpy as np
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from common import wire
from common.config import load_yaml
from common.plan import Plan
from server.roster import Deployment
from server.rounds import Observer, RoundLoop, Silent


def build_app(observer: Observer, deployment: Deployment | None = None) -> ServerApp:
    """A ServerApp whose rounds `observer` watches; `deployment` is a deployment's."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        from common.models.pretrained import starting_model  # torch: not before there is a run

        plan = load_yaml(Path(str(context.run_config["plan"])), Plan)
        given = context.run_config.get("pretrained")
        model = starting_model(plan, Path(str(given)) if given else None)
        schema = wire.Schema.exchanged(plan, model)
        loop = RoundLoop(grid, plan, schema, Path(str(context.run_config["out"])), observer, deployment)
        zeros = {name: np.zeros(shape, np.float32) for name, shape in schema.shapes.items()}
        loop.run(zeros | wire.get_weights(model))

    return app


app = build_app(Silent())
