"""Flower's own simulation engine on Ray: the way past one machine. Needs the `ray` extra.

Flower gives a simulated node only its number; `bound` turns that into the site's node configuration, so that
the very same ClientApp runs.
"""

from collections.abc import Callable, Sequence
from typing import Any

from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation

from client import app as site
from client.compute.device import set_up_process
from client.site_config import NodeConfig
from client.worker import answer, make_context
from common.errors import ConfigError
from simulation import hostile
from simulation.scenario import Machine


def run_on_ray(
    server_app: ServerApp, context: Context, nodes: Sequence[NodeConfig], machine: Machine
) -> None:
    """Run one federation on Ray; returns when it is finished.

    Raises:
        ConfigError: Ray is not installed.
        Exception: whatever the ServerApp raised.
    """
    try:
        import ray  # noqa: F401
    except ImportError:
        raise ConfigError(
            "simulation.engine: ray is not installed; run with `uv run --extra ray`, or use pool"
        ) from None
    failed: list[BaseException] = []
    wrapper = ServerApp()

    @wrapper.main()
    def main(grid: Grid, _: Context) -> None:
        try:
            server_app(grid, context)
        except BaseException as e:  # Flower would log it and report its own error instead
            failed.append(e)

    resources: dict[str, Any] = {
        "num_cpus": machine.n_threads,
        "num_gpus": 0.0 if machine.device == "cpu" else _gpu_share(machine),
    }
    cpus = machine.n_threads * machine.n_workers
    run_simulation(
        wrapper,
        bound(lambda _: nodes, machine.n_threads, hostile.app if machine.hostile else site.app),
        num_supernodes=len(nodes),
        backend_config={
            "init_args": {"num_cpus": cpus, "logging_level": "warning"},
            "client_resources": resources,
        },
    )
    if failed:
        raise failed[0]


def _gpu_share(machine: Machine) -> float:
    import torch

    return torch.cuda.device_count() / machine.n_workers if torch.cuda.is_available() else 0.0


def bound(
    nodes_of: Callable[[Context], Sequence[NodeConfig]],
    threads: int | None = None,
    works: ClientApp = site.app,
) -> ClientApp:
    """The site's ClientApp (`works`), for nodes that know only their `partition-id`: it counts in what
    `nodes_of` finds."""
    app = ClientApp()

    def handle(message: Message, context: Context) -> Message:
        set_up_process(threads)
        node = int(context.node_config["partition-id"])
        return answer(works, message, make_context(node, nodes_of(context)[node]))

    for register in (app.query(), app.train(), app.evaluate()):
        register(handle)
    return app
