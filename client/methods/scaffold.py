"""SCAFFOLD (Karimireddy et al., 2020, "Stochastic Controlled Averaging for Federated Learning"), the site's
part.

Each step is corrected by c - c_i; the site's control variate becomes, by the paper's option II,
c_i+ = c_i - c + (x - y) / (K η), where K η is the sum of the steps' rates. Server:
server/strategies/scaffold.py.
"""

import numpy as np
import torch

from client.methods.task import Task, difference
from client.training.local import Pull, Trained
from common import wire


def train(task: Task) -> tuple[Trained, wire.Weights]:
    """Both differences leave: that of the weights, and that of the control variate, which stays here too."""
    weights, control = wire.model_part(task.start), wire.control_part(task.start)
    before = task.memory.before(task.round) or {name: np.zeros_like(c) for name, c in control.items()}
    names = [name for name, p in task.model.named_parameters() if p.requires_grad]
    correction = [torch.from_numpy(control[name] - before[name]).to(task.device) for name in names]
    done = task.train(weights, Pull(correction=correction))
    local = wire.get_weights(task.model)
    after = dict(before)
    for name in names:
        after[name] = before[name] - control[name] + (weights[name] - local[name]) / np.float32(done.rates)
    task.memory.keep(task.round, after)
    moved = {f"{wire.CONTROL}{name}": c for name, c in difference(after, before).items()}
    return done, difference(local, weights) | moved
