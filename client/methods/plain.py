"""Plain training: FedAvg's part at a site, and that of all methods which differ from it at the server
alone."""

from client.methods.task import Task, difference
from client.training.local import Trained
from common import wire


def train(task: Task) -> tuple[Trained, wire.Weights]:
    """The plan's epochs; all that changed leaves."""
    done = task.train(task.start)
    return done, difference(wire.get_weights(task.model), task.start)
