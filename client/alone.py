"""The model that a hospital trains by itself: the same split, budget and training as in the federation, for
what the federation gained it. The model does not leave the site, unless plan and policy (`cross`) have it so.

It is resumed where it was; it trains in the hours that the policy allows. Under a plan with privacy it trains
without: nobody else sees it.
"""

import datetime
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.numpy import save

from client.governance.policy import Policy
from client.imaging.cohort import Cohort
from client.methods import train_site
from client.methods.memory import SiteMemory
from client.methods.task import Task
from client.training.evaluate import cross_entropy, predict
from common import wire
from common.aggregate import WeightedMean
from common.config import dump_yaml
from common.errors import RunError
from common.files import write_atomically
from common.handover import MODEL, PLAN
from common.models import build_model
from common.models.pretrained import starting_model
from common.plan import Aggregation, Codec, Evaluation, Plan, Strategy, evaluates
from common.progress import follow
from common.selection import Verdict, Verdicts, chosen_round, goes_on

PIECE = "alone-{}.safetensors"
"""After so many rounds."""
BEST = "best/"
"""Before the names of tensors that are not the last ones."""


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
        piece = _resume(folder, alone, pretrained)
        for number in follow(
            range(piece.round + 1, alone.rounds + 1), "rounds alone", alone.rounds - piece.round
        ):
            if not goes_on(alone, piece.verdicts, piece.round):
                break
            _require_open(policy, piece.round, alone.rounds)
            piece = self._next(alone, piece)
            piece.write(folder)
            (folder / PIECE.format(number - 1)).unlink(missing_ok=True)
        write_atomically(folder / MODEL, save(wire.model_part(piece.best or piece.weights)))
        (folder / PIECE.format(piece.round)).unlink(missing_ok=True)
        return folder

    def _next(self, plan: Plan, before: "Piece") -> "Piece":
        """A round further: trained, and judged where the plan chooses among its rounds."""
        number = before.round + 1
        weights, losses = self._round(plan, number, before.weights), before.losses
        if plan.evaluation.select == "best" and evaluates(plan, number):
            losses = {**losses, number: self._loss(plan, weights)}
        piece = Piece(number, weights, losses, {})
        is_best = chosen_round(plan, piece.verdicts, number) == number
        return piece if is_best else replace(piece, best=before.best or before.weights)

    def _loss(self, plan: Plan, weights: wire.Weights) -> float:
        """On the hospital's validation patients."""
        model = build_model(plan).to(self.device)
        wire.set_weights(model, weights)
        indices = self.cohort.split(plan.split)["validation"]
        return cross_entropy(predict(model, self.cohort, indices, self.device), self.cohort.labels[indices])

    def _round(self, plan: Plan, number: int, weights: wire.Weights) -> wire.Weights:
        """As a server with one site makes it, to the last bit."""
        model = build_model(plan).to(self.device)
        work = (model, self.cohort, plan, self.site, number, self.device)
        _, update = train_site(Task(*work, weights, SiteMemory(None)))
        schema = wire.Schema.of_weights(weights)
        mean = WeightedMean(schema.shapes, plan.federation.max_update_norm)
        mean.add(update, self.cohort.count_patients(self.cohort.split(plan.split)["train"]))
        return schema.check(mean.updated(weights))


@dataclass(frozen=True)
class Piece:
    """How far the training is: what a checkpoint is to a server."""

    round: int
    weights: wire.Weights
    losses: Mapping[int, float]
    best: wire.Weights
    """Those of the chosen round, where that is not this one."""

    @property
    def verdicts(self) -> Verdicts:
        """Of the one hospital."""
        return {
            number: {"": Verdict(loss)} if math.isfinite(loss) else {} for number, loss in self.losses.items()
        }

    def write(self, folder: Path) -> None:
        tensors = self.weights | {f"{BEST}{name}": w for name, w in self.best.items()}
        metadata = {"losses": json.dumps(dict(self.losses))}
        write_atomically(folder / PIECE.format(self.round), save(tensors, metadata=metadata))

    @classmethod
    def read(cls, folder: Path, number: int) -> "Piece":
        with safe_open(folder / PIECE.format(number), framework="numpy") as file:
            told = json.loads((file.metadata() or {}).get("losses", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        best = {name.removeprefix(BEST): w for name, w in tensors.items() if name.startswith(BEST)}
        weights = {name: w for name, w in tensors.items() if not name.startswith(BEST)}
        return cls(number, weights, {int(k): float(v) for k, v in told.items()}, best)


def alone_plan(plan: Plan) -> Plan:
    """What a hospital would train without a federation: plain training, without the noise that protects from
    others and with nothing to send. A simulation's arms are trained under it too (simulation/arms.py)."""
    return plan.model_copy(
        update={
            "strategy": Strategy(),
            "privacy": None,
            "codec": Codec(),
            "aggregation": Aggregation(),
            "evaluation": _quiet(plan.evaluation),
        }
    )


def _quiet(evaluation: Evaluation) -> Evaluation:
    """Nobody else asks for this model's numbers."""
    return evaluation.model_copy(update={"final": False, "alone": False, "cross": 0})


def _resume(folder: Path, plan: Plan, pretrained: Path | None) -> Piece:
    """What is done."""
    done = [n for n in range(plan.rounds, 0, -1) if (folder / PIECE.format(n)).is_file()]
    if not done:
        return Piece(0, wire.get_weights(starting_model(plan, pretrained)), {}, {})
    return Piece.read(folder, done[0])


def _require_open(policy: Policy | None, done: int, rounds: int) -> None:
    if policy is not None and (closed := policy.closed(datetime.datetime.now())):
        raise RunError(
            f"{closed}; {done} of {rounds} rounds are trained alone, the same command goes on from there"
        )
