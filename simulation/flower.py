"""For `flwr run .`: the same two apps, as Flower users start them. Needs the `ray` extra.

Flower starts the ServerApp and the ClientApps in processes of their own and gives a node only its number.
What both must know of the data (folders of the cohorts) stands in the run's folder: the ServerApp prepares it
before the first round.
"""

import json
from pathlib import Path

from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from client import app as site
from client.compute.device import set_up_process
from client.site_config import NodeConfig
from client.worker import answer, make_context
from common.arms import FEDERATED
from common.config import load_yaml
from common.errors import ConfigError
from common.files import write_atomically
from server.app import build_app
from server.observer import Silent
from simulation.runs import start
from simulation.scenario import PhantomData, Scenario
from simulation.simulate import node_configs
from simulation.sites import prepare_sites

NODES = "nodes.json"
server_app = ServerApp()


@server_app.main()
def _serve(grid: Grid, context: Context) -> None:
    out = _folder(context)
    plan_file = Path(__file__).resolve().parent.parent / str(context.run_config["plan"])
    scenario = load_yaml(plan_file, Scenario)
    n_nodes = len(list(grid.get_node_ids()))
    if isinstance(scenario.data, PhantomData):  # as many synthetic hospitals as Flower simulates nodes
        scenario = load_yaml(plan_file, Scenario, [f"data.sites={n_nodes}"])
    out.mkdir(parents=True)
    start(out, scenario)
    sites = prepare_sites(scenario, out)
    nodes = node_configs(scenario, sites, out, FEDERATED)
    if n_nodes != len(nodes):
        raise ConfigError(
            f"Flower simulates {n_nodes} nodes, the plan has {len(nodes)} hospitals; "
            f"add --federation-config 'num-supernodes={len(nodes)}' to flwr run"
        )
    write_atomically(out / NODES, json.dumps(nodes).encode())
    context.run_config = {"plan": str(out / "plan.yaml"), "out": str(out / "arms" / FEDERATED)}
    build_app(Silent())(grid, context)
    print(f"pneumofed: the weights and the history of every round are in {context.run_config['out']}")


def _nodes(context: Context) -> list[NodeConfig]:
    nodes: list[NodeConfig] = json.loads((_folder(context) / NODES).read_text(encoding="utf-8"))
    return nodes


def _folder(context: Context) -> Path:
    """Each run's own: Flower unpacks the project somewhere else, so a folder beside it would be hard to
    find."""
    return Path(str(context.run_config["out"])).expanduser() / str(context.run_id)


client_app = ClientApp()


def _answer(message: Message, context: Context) -> Message:
    """The site's, for a node that knows only its `partition-id`: it counts in what the ServerApp left."""
    set_up_process()
    node = int(context.node_config["partition-id"])
    return answer(site.app, message, make_context(node, _nodes(context)[node]))


for register in (client_app.query(), client_app.train(), client_app.evaluate()):
    register(_answer)
