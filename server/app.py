"""The Flower ServerApp: one federated run of one plan.

Run configuration: `plan` (the plan's file), `out` (where the checkpoint goes), `pretrained` if the plan names
such a file, and `first` where the first weights were made before (beginning.py).
"""

from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from common import wire
from common.config import load_yaml
from common.plan import Plan
from server.beginning import read_first
from server.observer import Observer, Silent
from server.roster import Deployment
from server.rounds import RoundLoop


def build_app(observer: Observer, deployment: Deployment | None = None) -> ServerApp:
    """A ServerApp whose rounds `observer` watches; `deployment` is a deployment's."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        plan = load_yaml(Path(str(context.run_config["plan"])), Plan)
        given, first = (context.run_config.get(key) for key in ("pretrained", "first"))
        pretrained = Path(str(given)) if given else None
        initial = [read_first(Path(str(first))) if first else _made_here(plan, pretrained)]
        schema = wire.Schema.of_weights(initial[0])
        out = Path(str(context.run_config["out"]))
        loop = RoundLoop(grid, plan, schema, out, observer, deployment)
        loop.run(initial.pop())  # not held here for as long as the run goes on

    return app


def _made_here(plan: Plan, pretrained: Path | None) -> wire.Weights:
    from common.models.pretrained import starting_weights  # a server that was given them goes without torch

    return starting_weights(plan, pretrained)


app = build_app(Silent())
