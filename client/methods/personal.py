"""FedBN (Li et al., 2021) and FedPer (Arivazhagan et al., 2019): some tensors stay at the site.

The update holds zeros for them.
"""

import numpy as np

from client.methods.task import Task, difference
from client.training.local import Trained
from common import wire
from common.models.personal import personal_names


def train(task: Task) -> tuple[Trained, wire.Weights]:
    """From the global weights with the site's own in their places; its own are kept for the next round."""
    own = personal_names(task.plan, task.model)
    done = task.train({**task.start, **task.memory.before(task.round)})
    local = wire.get_weights(task.model)
    task.memory.keep(task.round, {name: local[name] for name in sorted(own)})
    update = difference(local, task.start)
    return done, {name: np.zeros_like(w) if name in own else w for name, w in update.items()}
