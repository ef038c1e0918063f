"""The app that stock Flower runs: its FedAvg with messages, and a client that echoes."""

import echo
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

client = ClientApp()
server = ServerApp()


@client.train()
def train(message: Message, context: Context) -> Message:
    """The weights that came, and the update added."""
    echo.arrived()
    weights = {name: array.numpy() for name, array in message.content["arrays"].items()}  # type: ignore[union-attr]
    number = int(message.content["config"]["server-round"])  # type: ignore[arg-type]
    site = str(context.node_config["site"])
    for name, u in echo.update({name: w.shape for name, w in weights.items()}, site, number).items():
        weights[name] = weights[name] + u
    content = {"arrays": to_record(weights), "metrics": MetricRecord({"num-examples": 100})}
    return Message(RecordDict(content), reply_to=message)  # type: ignore[arg-type]


@server.main()
def serve(grid: Grid, context: Context) -> None:
    """All rounds, with every site."""
    from safetensors.numpy import load_file, save_file

    config = context.run_config
    n = int(config["sites"])
    strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=n, min_available_nodes=n)
    first = to_record(load_file(str(config["first"])))
    result = strategy.start(grid, first, num_rounds=int(config["rounds"]))
    save_file({name: array.numpy() for name, array in result.arrays.items()}, str(config["last"]))


def to_record(weights: echo.Weights) -> ArrayRecord:
    """Named arrays as Flower has them."""
    return ArrayRecord({name: Array(w) for name, w in weights.items()})
