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
        plan = load_yaml(Path(str(context.run_config["plan"])), Plan)
        given = context.run_config.get("pretrained")
        schema, initial = _beginning(plan, Path(str(given)) if given else None)
        out = Path(str(context.run_config["out"]))
        RoundLoop(grid, plan, schema, out, observer, deployment).run(initial)

    return app


def _beginning(plan: Plan, pretrained: Path | None) -> tuple[wire.Schema, wire.Weights]:
    """What is exchanged, and its first values: those of the model, and zeros for what a method adds."""
    from common.models.pretrained import starting_model  # torch: not before there is a run

    model = starting_model(plan, pretrained)
    schema = wire.Schema.exchanged(plan, model)
    zeros = {name: np.zeros(shape, np.float32) for name, shape in schema.shapes.items()}
    return schema, zeros | wire.get_weights(model)


app = build_app(Silent())
