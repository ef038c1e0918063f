"""What a site is asked to do in one round of training."""

from dataclasses import dataclass

import torch

from client.imaging.cohort import Cohort
from client.methods.memory import SiteMemory
from client.training.local import Pull, Trained, train_round
from common import wire
from common.models import CNNLSTM
from common.plan import Plan


@dataclass(frozen=True)
class Task:
    """One site's round: the model to train in, on whose patients, from which weights, and what the method
    kept here."""

    model: CNNLSTM
    cohort: Cohort
    plan: Plan
    site: str
    round: int
    device: torch.device
    start: wire.Weights  # the global weights, and what else the method sends
    memory: SiteMemory

    def train(self, weights: wire.Weights, pull: Pull | None = None, *, seed: str = "") -> Trained:
        """The plan's epochs from `weights`; `seed` parts a second training of the round from the first."""
        wire.set_weights(self.model, weights)
        return train_round(
            self.model, self.cohort, self.plan, self.site + seed, self.round, self.device, pull=pull
        )

    def anchor(self) -> list[torch.Tensor]:
        """The trained parameters at the global weights: what a method may pull toward."""
        wire.set_weights(self.model, self.start)
        return [p.detach().clone() for p in self.model.parameters() if p.requires_grad]


def difference(local: wire.Weights, start: wire.Weights) -> wire.Weights:
    """The update: local - global."""
    return {name: w - start[name] for name, w in local.items()}
