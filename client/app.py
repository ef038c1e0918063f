"""The Flower ClientApp: `query` (who is there), `train` and `evaluate`, under the one plan that the site approved.

Node configuration: `site` (name), `cohorts` (cohort folders, separated as in PATH), `plan` (the approved plan's file),
`device` (auto, cpu, cuda, cuda:n).
"""

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from client.imaging.cohort import Cohort, require_trainable
from client.training.device import choose_device, describe
from client.training.evaluate import numbers_for, predict
from client.training.local import train_round
from common import wire
from common.config import load_yaml
from common.errors import DataError, WireError
from common.models import CNNLSTM, build_model
from common.plan import Plan

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

    @classmethod
    def of(cls, context: Context) -> "Site":
        node = context.node_config
        return _open_site(str(node["site"]), str(node["cohorts"]), str(node["plan"]), str(node.get("device", "auto")))

    def load(self, content: RecordDict) -> wire.Weights:
        """Check a request against the approved plan, put its weights into the model, and return them.

        Raises:
            WireError: another plan, a round that the plan does not have, or other tensors than the model's.
        """
        self.require_plan(content)
        if wire.get_round(content) > self.plan.rounds:
            raise WireError(f"found round {wire.get_round(content)}, the plan has {self.plan.rounds}")
        weights = self.schema.check(wire.get_arrays(content))
        wire.set_weights(self.model, weights)
        return weights

    def require_plan(self, content: RecordDict) -> None:
        asked = wire.get_text(content, wire.PLAN_SHA256)
        if asked != self.plan.sha256:
            raise WireError(f"the server runs plan {asked[:12]}, this site approved {self.plan.sha256[:12]}")


@lru_cache(maxsize=64)
def _open_site(name: str, cohorts: str, plan_file: str, device_name: str) -> Site:
    plan = load_yaml(Path(plan_file), Plan)
    cohort = Cohort.open(*(Path(folder) for folder in cohorts.split(os.pathsep)))
    if cohort.contract != plan.input or cohort.findings != plan.findings:
        raise DataError(f"{name}: the cohort was ingested for another input contract or other findings; ingest it again")
    require_trainable(cohort, plan.split, plan.min_patients, name)
    device = choose_device(device_name)
    model = build_model(plan).to(device)
    return Site(name, plan, cohort, device, model, wire.Schema.of(model))


@app.query()
def query(message: Message, context: Context) -> Message:
    """Name, device and numbers of patients: what the server needs to greet a site."""
    site = Site.of(context)
    site.require_plan(message.content)
    split = site.cohort.split(site.plan.split)
    counts = {number: site.cohort.count_patients(split[part]) for number, part in _COUNTS.items()}
    about = ConfigRecord({wire.SITE: site.name, wire.DEVICE: describe(site.device)})
    metrics = MetricRecord({wire.N_EXAMPLES: counts[wire.N_TRAIN], **counts})
    return Message(RecordDict({wire.CONFIG: about, wire.METRICS: metrics}), reply_to=message)


_COUNTS = {wire.N_TRAIN: "train", wire.N_VALIDATION: "validation", wire.N_TEST: "test"}


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train from the global weights; the reply holds the update local - global and TRAIN_NUMBERS."""
    site = Site.of(context)
    start = site.load(message.content)
    done = train_round(site.model, site.cohort, site.plan, site.name, wire.get_round(message.content), site.device)
    update = {name: local - start[name] for name, local in wire.get_weights(site.model).items()}
    n_examples = site.cohort.count_patients(site.cohort.split(site.plan.split)["train"])
    numbers = MetricRecord({wire.N_EXAMPLES: n_examples, wire.LOSS: done.loss, wire.STEPS: done.steps, wire.SECONDS: done.seconds})
    return Message(RecordDict({wire.ARRAYS: wire.to_record(update), wire.METRICS: numbers}), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Judge the global weights on the site's validation patients; the reply holds EVALUATE_NUMBERS."""
    site = Site.of(context)
    site.load(message.content)
    indices = site.cohort.split(site.plan.split)["validation"]
    if len(indices) == 0:
        raise DataError(f"{site.name}: no validation patients to evaluate on")
    numbers = numbers_for(site.cohort, indices, predict(site.model, site.cohort, indices, site.device), site.plan)
    n_examples = site.cohort.count_patients(indices)
    return Message(RecordDict({wire.METRICS: MetricRecord({wire.N_EXAMPLES: n_examples, **numbers})}), reply_to=message)
