"""The Flower ClientApp: `query` (who is there), `train` and `evaluate`, under the one plan that the site
approved.

Node configuration: `site` (name), `cohorts` (cohort folders, separated as in PATH), `plan` (the approved
plan's file), `device` (auto, cpu, cuda, cuda:n). Optional: `min-patients` (the site's own minimum); `memory`
(folder for what methods keep here); and for plans with privacy `ledger` (its file), `budget-epsilon` and
`budget-delta`.
"""

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from client.compute.device import choose_device, describe
from client.imaging.cohort import Cohort, require_trainable
from client.imaging.survey import survey
from client.training.evaluate import numbers_for, predict_logits
from client.training.local import Trained
from client.training.memory import SiteMemory
from client.training.methods import personal_weights, train_site
from common import wire
from common.config import load_yaml
from common.errors import DataError, RefusedError, WireError
from common.models import CNNLSTM, build_model
from common.plan import STATEFUL, Plan

if TYPE_CHECKING:
    from client.governance.ledger import Budget

app = ClientApp()


@dataclass(frozen=True)
class Site:
    """What stays warm between messages: the plan, the open cohort and a model to load weights into."""

    name: str
    plan: Plan
    cohort: Cohort
    device: torch.device
    model: CNNLSTM
    schema: wire.Schema
    budget: "Budget | None"
    memory: Path | None

    @classmethod
    def of(cls, context: Context) -> "Site":
        node = context.node_config
        budget = (
            (float(node["budget-epsilon"]), float(node["budget-delta"])) if "budget-epsilon" in node else None
        )
        least = int(node.get("min-patients", 0))
        return _open_site(
            str(node["site"]), str(node["cohorts"]), str(node["plan"]), str(node.get("device", "auto")),
            budget, least,
            str(node["memory"]) if "memory" in node else None,
        )  # fmt: skip

    def load(self, content: RecordDict) -> wire.Weights:
        """Check a request against the approved plan, put its weights into the model, and return them.

        Raises:
            WireError: another plan, a round that the plan does not have, or other tensors than the model's.
        """
        self.require_plan(content)
        if wire.get_round(content) > self.plan.rounds:
            raise WireError(f"found round {wire.get_round(content)}, the plan has {self.plan.rounds}")
        weights = self.schema.unpack(wire.get_arrays(content))
        wire.set_weights(self.model, weights)
        return weights

    def memory_of(self, content: RecordDict) -> SiteMemory:
        """What the plan's method keeps at this site in the run that a request is about."""
        if self.memory is None or self.plan.strategy.name not in STATEFUL:
            return SiteMemory(None)
        return SiteMemory(self.memory / wire.get_text(content, wire.RUN))

    def require_plan(self, content: RecordDict) -> None:
        asked = wire.get_text(content, wire.PLAN_SHA256)
        if asked != self.plan.sha256:
            raise WireError(f"the server runs plan {asked[:12]}, this site approved {self.plan.sha256[:12]}")


@lru_cache(maxsize=64)
def _open_site(
    name: str,
    cohorts: str,
    plan_file: str,
    device_name: str,
    budget: tuple[float, float] | None,
    least: int,
    memory: str | None,
) -> Site:
    plan = load_yaml(Path(plan_file), Plan)
    cohort = Cohort.open(*(Path(folder) for folder in cohorts.split(os.pathsep)))
    if cohort.contract != plan.input or cohort.findings != plan.findings:
        raise DataError(
            f"{name}: the cohort was ingested for another input contract or other findings; ingest it again"
        )
    require_trainable(cohort, plan.split, max(plan.min_patients, least), name)
    device = choose_device(device_name)
    model = build_model(plan).to(device)
    place = None if memory is None else Path(memory)
    return Site(name, plan, cohort, device, model, wire.Schema.exchanged(plan, model), _budget(budget), place)


def _budget(given: tuple[float, float] | None) -> "Budget | None":
    if given is None:
        return None
    from client.governance.ledger import Budget

    return Budget(*given)


@app.query()
def query(message: Message, context: Context) -> Message:
    """Name, device and counts of patients: what the server needs to greet a site, and its coordinator before
    round 1."""
    site = Site.of(context)
    site.require_plan(message.content)
    split = site.cohort.split(site.plan.split)
    counts: dict[str, float] = {
        number: site.cohort.count_patients(split[part]) for number, part in _COUNTS.items()
    }
    counts |= survey(site.cohort, split["train"])
    if site.plan.privacy is not None:
        counts = dict.fromkeys(counts, float("nan"))
    about = ConfigRecord({wire.SITE: site.name, wire.DEVICE: describe(site.device)})
    n_examples = wire.PRIVATE_WEIGHT if site.plan.privacy is not None else int(counts[wire.N_TRAIN])
    metrics = MetricRecord({wire.N_EXAMPLES: n_examples, **counts})
    return Message(RecordDict({wire.CONFIG: about, wire.METRICS: metrics}), reply_to=message)


_COUNTS = {wire.N_TRAIN: "train", wire.N_VALIDATION: "validation", wire.N_TEST: "test"}


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train from the global weights; the reply holds the update local - global and TRAIN_NUMBERS."""
    site = Site.of(context)
    start = site.load(message.content)
    if site.plan.privacy is not None:
        done = _train_privately(site, message.content, str(context.node_config["ledger"]))
        update = {name: local - start[name] for name, local in wire.get_weights(site.model).items()}
    else:
        number, memory = wire.get_round(message.content), site.memory_of(message.content)
        done, update = train_site(
            site.model, site.cohort, site.plan, site.name, number, site.device, start, memory
        )
    n_examples, seconds = (
        site.cohort.count_patients(site.cohort.split(site.plan.split)["train"]),
        done.seconds,
    )
    if site.plan.privacy is not None:
        # both would tell of the patients, without noise
        n_examples, seconds = wire.PRIVATE_WEIGHT, float("nan")
    numbers = MetricRecord(
        {wire.N_EXAMPLES: n_examples, wire.LOSS: done.loss, wire.STEPS: done.steps, wire.SECONDS: seconds}
    )
    return Message(RecordDict({wire.ARRAYS: wire.pack(update), wire.METRICS: numbers}), reply_to=message)


def _train_privately(site: Site, content: RecordDict, ledger_file: str) -> Trained:
    """A private round: what it costs is in the site's ledger before the first step, and within the site's
    budget."""
    from client.governance.accounting import RoundCost
    from client.governance.ledger import Ledger, Purpose  # takes seconds: only where it is needed
    from client.training.private.round import train_private_round

    plan, cohort, number = site.plan, site.cohort, wire.get_round(content)
    indices = cohort.split(plan.split)["train"]
    patients = sorted(set(cohort.patients[indices].tolist()))
    cost = RoundCost.of(plan, len(patients))
    ledger, purpose = (
        Ledger(Path(ledger_file)),
        Purpose(plan.sha256, wire.get_text(content, wire.RUN), number),
    )
    reservation = ledger.reserve(patients, purpose, (cost.noise, cost.sample_rate, cost.steps), site.budget)
    done = train_private_round(site.model, cohort, indices, plan, cost, number, site.device)
    ledger.settle(reservation, done.steps)
    return done


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Judge the global weights on the site's validation patients; the reply holds EVALUATE_NUMBERS."""
    site = Site.of(context)
    start = site.load(message.content)
    if site.plan.privacy is not None:
        raise RefusedError(
            "scores are computed without noise: under a plan with privacy this site keeps them"
        )
    # Judged as the site would use it: with what stays here, of this round too.
    own = personal_weights(
        site.plan, site.model, site.memory_of(message.content), wire.get_round(message.content) + 1
    )
    if own:
        wire.set_weights(site.model, {**start, **own})
    indices = site.cohort.split(site.plan.split)["validation"]
    if len(indices) == 0:
        raise DataError(f"{site.name}: no validation patients to evaluate on")
    numbers = numbers_for(
        site.cohort, indices, predict_logits(site.model, site.cohort, indices, site.device), site.plan
    )
    n_examples = site.cohort.count_patients(indices)
    return Message(
        RecordDict({wire.METRICS: MetricRecord({wire.N_EXAMPLES: n_examples, **numbers})}), reply_to=message
    )
