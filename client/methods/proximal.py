"""FedProx (Li et al., 2020, "Federated Optimization in Heterogeneous Networks"): a pull of μ toward the
global weights.

The strength is the approved plan's, not the server's message's.
"""

from client.methods.task import Task, difference
from client.training.local import Pull, Trained
from common import wire


def train(task: Task) -> tuple[Trained, wire.Weights]:
    """The plan's epochs with the gradient of μ/2 ||w - w_global||² added to each step's."""
    strength = task.plan.strategy.option("proximal_mu")
    pull = Pull(task.anchor(), strength) if strength else None
    done = task.train(task.start, pull)
    return done, difference(wire.get_weights(task.model), task.start)
