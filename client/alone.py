"""The model that a hospital trains by itself: the same split, budget and training as in the federation, for
what the federation gained it. The model does not leave the site.

It is resumed where it was; it trains in the hours that the policy allows. Under a plan with privacy it trains
without: nobody else sees it.
"""

import datetime
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.numpy import load_file, save

from client.governance.policy import Policy
from client.imaging.cohort import Cohort
from client.methods import train_site
from client.methods.memory import SiteMemory
from client.methods.task import Task
from common import wire
from common.aggregate import WeightedMean, apply_update
from common.config import dump_yaml
from common.errors import RunError
from common.files import write_atomically
from common.handover import MODEL, PLAN
from common.models import build_model
from common.models.pretrained import starting_model
from common.plan import Evaluation, Plan, Strategy
from common.progress import follow

PIECE = "alone-{}.safetensors"
"""After so many rounds."""


@dataclass(frozen=True)
class Alone:
    """A hospital's training by itself: of whom, and where its model is kept."""

    site: str
    cohort: Cohort
    folder: Path
    device: torch.device

    def train(self, plan: Plan, policy: Policy | None = None, pretrained: Path | None = None) -> Path:
        """The folder of the model, trained to the plan's last round; `policy` says at which hours.

        Raises:
            RunError: the policy's hours are over; what was trained stays.
            ConfigError: the plan starts from a file that was not given.
        """
        alone, folder = alone_plan(plan), self.folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(folder / PLAN, dump_yaml(alone).encode())
        if (folder / MODEL).is_file():
            return folder
        done, weights = _resume(folder, alone, pretrained)
        for number in follow(range(done + 1, alone.rounds + 1), "rounds alone", alone.rounds - done):
            _require_open(policy, number - 1, alone.rounds)
            weights = self._round(alone, number, weights)
            write_atomically(folder / PIECE.format(number), save(weights))
            (folder / PIECE.format(number - 1)).unlink(missing_ok=True)
        write_atomically(folder / MODEL, save(wire.model_part(weights)))
        (folder / PIECE.format(alone.rounds)).unlink(missing_ok=True)
        return folder

    def _round(self, plan: Plan, number: int, weights: wire.Weights) -> wire.Weights:
        """As a server with one site makes it, to the last bit."""
        model = build_model(plan).to(self.device)
        work = (model, self.cohort, plan, self.site, number, self.device)
        _, update = train_site(Task(*work, weights, SiteMemory(None)))
        schema = wire.Schema({name: w.shape for name, w in weights.items()})
        mean = WeightedMean(schema.shapes, plan.federation.max_update_norm)
        mean.add(update, self.cohort.count_patients(self.cohort.split(plan.split)["train"]))
        return schema.check(apply_update(weights, mean.mean()))


def alone_plan(plan: Plan) -> Plan:
    """What a hospital would train without a federation: plain training, without the noise that protects from
    others."""
    return plan.model_copy(
        update={"strategy": Strategy(), "privacy": None, "evaluation": _quiet(plan.evaluation)}
    )


def _quiet(evaluation: Evaluation) -> Evaluation:
    """Nobody else asks for this model's numbers."""
    return evaluation.model_copy(update={"final": False, "alone": False})


def _resume(folder: Path, plan: Plan, pretrained: Path | None) -> tuple[int, wire.Weights]:
    """Rounds that are done, and the weights after them."""
    done = [n for n in range(plan.rounds, 0, -1) if (folder / PIECE.format(n)).is_file()]
    if not done:
        return 0, wire.get_weights(starting_model(plan, pretrained))
    return done[0], load_file(folder / PIECE.format(done[0]))


def _require_open(policy: Policy | None, done: int, rounds: int) -> None:
    if policy is not None and (closed := policy.closed(datetime.datetime.now())):
        raise RunError(
            f"{closed}; {done} of {rounds} rounds are trained alone, the same command goes on from there"
        )
