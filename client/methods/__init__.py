"""A site's part of one round under each federated method: what it trains, what leaves as the update, what it
keeps.

Plain training is the whole of most methods' part; the others have a file here and a line in `TRAINERS`.
"""

from collections.abc import Callable, Mapping

from client.methods import ditto, personal, plain, proximal, scaffold
from client.methods.memory import SiteMemory
from client.methods.task import Task
from client.training.local import Trained
from common.models import CNNLSTM
from common.models.personal import personal_names
from common.plan import Plan
from common.wire import Weights

TRAINERS: Mapping[str, Callable[[Task], tuple[Trained, Weights]]] = {
    "FedProx": proximal.train,
    "SCAFFOLD": scaffold.train,
    "FedBN": personal.train,
    "FedPer": personal.train,
    "Ditto": ditto.train,
}


def train_site(task: Task) -> tuple[Trained, Weights]:
    """Train from the global weights; returns what was done, and the update that leaves."""
    return TRAINERS.get(task.plan.strategy.name, plain.train)(task)


def personal_weights(plan: Plan, model: CNNLSTM, memory: SiteMemory, round: int) -> Weights:
    """The tensors that this site uses in place of the global ones in `round`; empty if the method has none,
    or before its first."""
    return memory.before(round) if personal_names(plan, model) else {}
