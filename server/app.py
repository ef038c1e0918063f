"""The Flower ServerApp: one federated run of one plan.

Run configuration: `plan` (the plan's file) and `out` (where the checkpoint goes).
"""

from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from common import wire
from common.config import load_yaml
from common.models import build_model
from common.plan import Plan
from server.roster import Terms
from server.rounds import Observer, RoundLoop, Silent


def build_app(observer: Observer, terms: Terms | None = None) -> ServerApp:
    """A ServerApp whose rounds `observer` watches; `terms` are a deployment's."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        plan = load_yaml(Path(str(context.run_config["plan"])), Plan)
        model = build_model(plan)
        loop = RoundLoop(grid, plan, wire.Schema.of(model), Path(str(context.run_config["out"])), observer, terms)
        loop.run(wire.get_weights(model))

    return app


app = build_app(Silent())
