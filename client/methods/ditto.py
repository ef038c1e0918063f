"""Ditto (Li et al., 2021, "Ditto: Fair and Robust Federated Learning Through Personalization").

Beside the global model the site trains one of its own, from where it was, pulled toward the global weights.
"""

from client.methods import plain
from client.methods.task import Task
from client.training.local import Pull, Trained
from common import wire


def train(task: Task) -> tuple[Trained, wire.Weights]:
    """FedAvg's part; then the site's own model, which stays here."""
    done, update = plain.train(task)
    pull = Pull(task.anchor(), task.plan.strategy.option("lambda_"))
    task.train(task.memory.before(task.round) or task.start, pull, seed=", own")
    task.memory.keep(task.round, wire.get_weights(task.model))
    return done, update
