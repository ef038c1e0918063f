"""The Flower ClientApp: `query` (who is there), `train`, `evaluate` and at the end `evaluate.final`, `.own`
and `.other`, under the one plan that the site approved.

What it knows of its site is a `SiteConfig`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from numpy.typing import NDArray
from safetensors.numpy import load_file

from client.alone import Alone
from client.coded import CodedRun, Sending
from client.compute.device import choose_device, describe
from client.final import answer_finally, auroc_told
from client.governance.accounting import RoundCost
from client.governance.ledger import Ledger, Purpose
from client.governance.peers import Peers
from client.imaging.cohort import Cohort, require_trainable
from client.imaging.survey import survey
from client.methods import personal_weights, train_site
from client.methods.memory import SiteMemory
from client.methods.task import Task
from client.secure import Party, SecureRound, SecureRounds
from client.site_config import SiteConfig
from client.training.evaluate import numbers_for, predict_always, predict_logits, predictions
from client.training.local import Trained
from client.training.private.counts import noisy_counts
from common import soft_counts, wire
from common.aggregate import clipped
from common.codec import Coder
from common.config import load_yaml
from common.credentials import read_key
from common.errors import DataError, RefusedError, WireError
from common.handover import MODEL
from common.methods import Stays
from common.models import CNNLSTM, build_model
from common.models.pretrained import starting_weights
from common.plan import Plan, canonical_json, evaluates
from common.results.final import answer_text
from common.results.form import Result
from common.scores import Predictions
from common.secure import messages as secure
from common.secure.keys import Moment
from common.secure.levels import Levels
from common.secure.ring import FULL, to_ring

app = ClientApp()
_secure = SecureRounds()
"""Of the sites of this process."""


@dataclass(frozen=True)
class Site:
    """What stays warm between messages: the plan, the open cohort and a model to load weights into."""

    config: SiteConfig
    plan: Plan
    cohort: Cohort
    device: torch.device
    model: CNNLSTM
    schema: wire.Schema

    @classmethod
    def of(cls, context: Context) -> "Site":
        config = SiteConfig.from_node(context.node_config)
        return _open_site(config, tuple(_stamp(folder / "cohort.json") for folder in config.cohorts))

    def weights_in(self, content: RecordDict, first: int = 1) -> wire.Weights:
        """The weights of a request, checked against the approved plan.

        Raises:
            WireError: another plan, a round that the plan does not have, or other tensors than the model's.
        """
        self.require_plan(content)
        if (number := wire.get_round(content, first)) > self.plan.rounds:
            raise WireError(f"found round {number}, the plan has {self.plan.rounds}")
        run = self.coded_run(content)
        return run.received(content) if run else self.schema.unpack(wire.get_arrays(content))

    def coded_run(self, content: RecordDict) -> CodedRun | None:
        """This site's end of the plan's codec in the run that a request is about; None without one.

        Raises:
            DataError: the node configuration names no folder for it.
        """
        coder = Coder.of(self.plan, self.schema)
        if coder is None:
            return None
        if self.config.memory is None:
            raise DataError(f"the plan has the codec {self.plan.codec.name}, and the node no folder (memory)")
        folder = self.config.memory / wire.get_text(content, wire.RUN)
        return CodedRun(coder, folder, self._start, self.cohort.fingerprint)

    def _start(self) -> wire.Weights:
        """The weights that the plan begins with; empty where only the server has them."""
        given = self.config.pretrained
        if self.plan.model.pretrained is not None and given is None:
            return {}
        return starting_weights(self.plan, given)

    def sending(self, content: RecordDict) -> Sending:
        """What a coded update of this site is an answer to."""
        number = wire.get_round(content)
        return Sending(self.config.site, self.plan.seed, number, wire.get_answered(content, number - 1))

    def levels(self, roster: secure.Roster) -> Levels | None:
        """The integers of a masked update, under a plan with a codec. Raises WireError if the roster's bounds
        are none for this plan."""
        return Levels.of(self.plan, self.schema.shapes, len(roster.adverts), roster.bounds)

    def secure_round(self, content: RecordDict) -> SecureRound:
        """This site's part in the round of secure aggregation that a request is about. Raises WireError."""
        return _secure.current(self.config.site, self.moment(content))

    def moment(self, content: RecordDict) -> Moment:
        """Raises WireError: another plan, no secure aggregation, or a round that the plan does not have."""
        self.require_plan(content)
        if not self.plan.aggregation.secure:
            raise WireError("the plan has no secure aggregation")
        if (number := wire.get_round(content)) > self.plan.rounds:
            raise WireError(f"found round {number}, the plan has {self.plan.rounds}")
        return Moment(self.plan.sha256, wire.get_text(content, wire.RUN), number)

    def party(self, content: RecordDict) -> Party:
        """Who this site is to its peers. Raises DataError if the node configuration does not say."""
        config, threshold = self.config, self.plan.aggregation.threshold
        if config.identity is None or config.peers is None or config.memory is None or threshold is None:
            raise DataError("the plan has secure aggregation, and the node no identity, peers or memory")
        folder = config.memory / wire.get_text(content, wire.RUN)
        return Party(read_key(config.identity), config.site, threshold, Peers(config.peers), folder)

    @property
    def n_examples(self) -> int:
        """The training patients; under privacy all sites count alike."""
        if self.plan.privacy is not None:
            return wire.PRIVATE_WEIGHT
        return self.cohort.count_patients(self.cohort.split(self.plan.split)["train"])

    def memory_of(self, content: RecordDict) -> SiteMemory:
        """What the plan's method keeps at this site in the run that a request is about."""
        if self.config.memory is None or self.plan.strategy.method.stays is Stays.NOTHING:
            return SiteMemory(None)
        return SiteMemory(self.config.memory / wire.get_text(content, wire.RUN))

    def require_plan(self, content: RecordDict) -> None:
        asked = wire.get_text(content, wire.PLAN_SHA256)
        if asked != self.plan.sha256:
            raise WireError(f"the server runs plan {asked[:12]}, this site approved {self.plan.sha256[:12]}")


def _stamp(file: Path) -> tuple[int, int]:
    """Another one when the file was replaced: a cohort's by a new ingest, or because a patient was
    forgotten."""
    try:
        state = file.stat()
        return state.st_mtime_ns, state.st_ino
    except OSError:
        return 0, 0  # opening it says what is wrong


@lru_cache(maxsize=2)
def _model_of(plan: str, device: torch.device) -> tuple[CNNLSTM, wire.Schema]:
    """A model to load weights into, and what crosses of it; `plan` is canonical JSON. Sites of one process
    that train under one plan share it: every message brings its weights."""
    agreed = Plan.model_validate_json(plan)
    model = build_model(agreed).to(device)
    return model, wire.Schema.exchanged(agreed, model)


@lru_cache(maxsize=1024)
def _open_site(config: SiteConfig, stamps: tuple[tuple[int, int], ...]) -> Site:
    """A warm site is one for as long as its configuration and its cohorts on disk (`stamps`) are the same."""
    plan = load_yaml(config.plan, Plan)
    cohort = Cohort.open(*config.cohorts)
    if cohort.contract != plan.input or cohort.findings != plan.findings:
        raise DataError(
            f"{config.site}: the cohort was ingested for another input contract or other findings; ingest it "
            "again"
        )
    require_trainable(cohort, plan.split, max(plan.min_patients, config.min_patients), config.site)
    device = choose_device(config.device)
    model, schema = _model_of(canonical_json(plan.model_dump(mode="json")), device)
    return Site(config, plan, cohort, device, model, schema)


@app.query()
def query(message: Message, context: Context) -> Message:
    """Name, device and counts of patients: what the server needs to greet a site, and its coordinator before
    round 1."""
    site = Site.of(context)
    site.require_plan(message.content)
    split = site.cohort.split(site.plan.split)
    counts: dict[str, float] = {n: site.cohort.count_patients(split[part]) for n, part in _COUNTS.items()}
    counts |= survey(site.cohort, split["train"])
    n_examples = int(counts[wire.N_TRAIN])
    if site.plan.privacy is not None:
        counts, n_examples = dict.fromkeys(counts, float("nan")), wire.PRIVATE_WEIGHT
    texts = ConfigRecord({wire.SITE: site.config.site, wire.DEVICE: describe(site.device)})
    if (run := site.coded_run(message.content)) is not None:
        texts[wire.HOLDS] = run.holds()
    metrics = MetricRecord({wire.N_EXAMPLES: n_examples, **counts})
    return Message(RecordDict({wire.CONFIG: texts, wire.METRICS: metrics}), reply_to=message)


_COUNTS = {wire.N_TRAIN: "train", wire.N_VALIDATION: "validation", wire.N_TEST: "test"}


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train from the global weights; the reply holds the update local - global and TRAIN_NUMBERS."""
    site = Site.of(context)
    start, number = site.weights_in(message.content), wire.get_round(message.content)
    if site.plan.aggregation.secure:
        _join(site, message.content)
    if site.plan.privacy is not None:
        done = _train_privately(site, message.content, start)
        update = {name: local - start[name] for name, local in wire.get_weights(site.model).items()}
        seconds = float("nan")  # it would tell of the patients, without noise
    else:
        memory = site.memory_of(message.content)
        if site.plan.strategy.method.control:  # what the server never added is no control variate
            memory.drop_after(wire.get_answered(message.content, number - 1))
            _require_newest(memory, wire.get_answered(message.content))
        work = (site.model, site.cohort, site.plan, site.config.site, number, site.device)
        done, update = train_site(Task(*work, start, memory))
        seconds = done.seconds
    numbers = MetricRecord(
        {
            wire.N_EXAMPLES: site.n_examples,
            wire.LOSS: done.loss,
            wire.STEPS: done.steps,
            wire.SECONDS: seconds,
        }
    )
    arrays = _packed(site, message.content, start, update)
    return Message(RecordDict({wire.ARRAYS: arrays, wire.METRICS: numbers}), reply_to=message)


def _join(site: Site, content: RecordDict) -> None:
    """The round of secure aggregation, with all whose shares came. Raises RefusedError, WireError."""
    sealed, answered = secure.take(content, secure.SEALED, secure.Sealed), site.sending(content).answered
    site.secure_round(content).open(sealed, site.cohort.fingerprint, answered)
    if (run := site.coded_run(content)) is not None:
        run.require_newest(answered)


def _require_newest(memory: SiteMemory, answered: int) -> None:
    """Raises RefusedError if the server counted a control variate of a later round than lies here: with an
    older one the run would be off for good."""
    if (last := memory.last()) < answered:
        raise RefusedError(
            f"the server has this site's control variate of round {answered}, here lies that of round "
            f"{last}: an older copy was put back; bring the newest, or go on without this site"
        )


def _packed(site: Site, content: RecordDict, start: wire.Weights, update: wire.Weights) -> ArrayRecord:
    """The update as the plan has it sent: as it is, coded, or under masks."""
    if site.plan.aggregation.secure:
        return _masked(site, content, start, update)
    if (run := site.coded_run(content)) is not None:
        return run.coder.pack(run.sent(update, site.sending(content), run.coder.encode))
    return wire.pack(update)


def _masked(site: Site, content: RecordDict, start: wire.Weights, update: wire.Weights) -> ArrayRecord:
    """The update under masks, of at most the plan's norm: the server cannot see it, and its sum must not
    wrap."""
    begun, name, most = site.secure_round(content), site.config.site, site.plan.federation.max_update_norm
    levels, run, bits = site.levels(begun.roster), site.coded_run(content), FULL
    if levels is None or run is None:
        vector = to_ring(clipped(update, most), begun.roster.weights[name], most)
    else:
        share, bits = begun.roster.share([name]), levels.bits
        vector = run.sent(
            clipped(update, most),  # what is beyond the plan's norm is nobody's due
            replace(site.sending(content), carries=begun.carries),
            lambda whole, _: levels.encode(clipped(whole, most), share, begun.rounding()),
        )
    return secure.pack_masked(begun.mask(vector, start, bits), bits)


def _train_privately(site: Site, content: RecordDict, start: wire.Weights) -> Trained:
    """A private round: its cost is in the site's ledger before the first step, and within the site's
    budget."""
    from client.training.private.round import (
        train_private_round,
    )  # Opacus takes seconds: only where it is needed

    plan, number = site.plan, wire.get_round(content)
    indices = site.cohort.split(plan.split)["train"]
    cost = RoundCost.of(plan, site.cohort.count_patients(indices))
    with _paid(site, content, indices, cost):
        wire.set_weights(site.model, start)
        return train_private_round(site.model, site.cohort, indices, plan, cost, number, device=site.device)


@contextmanager
def _paid(site: Site, content: RecordDict, indices: NDArray[np.intp], cost: RoundCost) -> Iterator[None]:
    """What is done with the patients of these sequences, in the ledger: reserved before, and settled if it
    ended."""
    if site.config.ledger is None:
        raise DataError("the plan has privacy, and the node configuration names no ledger")
    ledger = Ledger(site.config.ledger)
    patients = sorted(set(site.cohort.patients[indices].tolist()))
    purpose = Purpose(site.plan.sha256, wire.get_text(content, wire.RUN), wire.get_round(content))
    reservation = ledger.reserve(patients, purpose, cost.history, site.config.budget)
    yield
    ledger.settle(reservation, cost.steps)


@app.train("keys")
def show_keys(message: Message, context: Context) -> Message:
    """The site's keys of a round of secure aggregation, and how many patients it will train on."""
    site = Site.of(context)
    begun = _secure.begin(site.party(message.content), site.moment(message.content))
    content = RecordDict({wire.METRICS: MetricRecord({wire.N_EXAMPLES: site.n_examples})})
    secure.put(content, secure.ADVERT, begun.advert)
    return Message(content, reply_to=message)


@app.train("shares")
def share_secrets(message: Message, context: Context) -> Message:
    """To each peer a share of the site's secrets, encrypted."""
    site, roster = Site.of(context), secure.take(message.content, secure.ROSTER, secure.Roster)
    site.levels(roster)  # before it trains, and under privacy pays for it
    return _told(message, secure.SEALED, site.secure_round(message.content).share(roster, site.n_examples))


@app.train("agree")
def agree_on_survivors(message: Message, context: Context) -> Message:
    """The site's word for whose updates are summed."""
    survivors = secure.take(message.content, secure.SURVIVORS, secure.Survivors)
    return _told(message, secure.SIGNATURE, Site.of(context).secure_round(message.content).agree(survivors))


@app.train("unmask")
def reveal_shares(message: Message, context: Context) -> Message:
    """The shares that take the masks off the sum."""
    signatures = secure.take(message.content, secure.SIGNATURES, secure.Signatures)
    return _told(message, secure.REVEALED, Site.of(context).secure_round(message.content).reveal(signatures))


def _told(message: Message, key: str, value: Result | str) -> Message:
    content = RecordDict()
    secure.put(content, key, value)
    return Message(content, reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Judge the global weights on the site's validation patients; the reply holds EVALUATE_NUMBERS."""
    site = Site.of(context)
    start, number = site.weights_in(message.content), wire.get_round(message.content)
    if site.plan.privacy is not None and not evaluates(site.plan, number):
        raise RefusedError(
            "scores are computed without noise: under a plan with privacy this site keeps them"
        )
    _as_used(site, message.content, start, number)
    indices = site.cohort.split(site.plan.split)["validation"]
    if len(indices) == 0:
        raise DataError(f"{site.config.site}: no validation patients to evaluate on")
    if site.plan.privacy is not None:
        numbers, n_examples = _judge_privately(site, message.content, indices), wire.PRIVATE_WEIGHT
    else:
        logits = predict_logits(site.model, site.cohort, indices, site.device)
        numbers = numbers_for(site.cohort, indices, logits, site.plan)
        n_examples = site.cohort.count_patients(indices)
    return Message(
        RecordDict({wire.METRICS: MetricRecord({wire.N_EXAMPLES: n_examples, **numbers})}), reply_to=message
    )


def _judge_privately(site: Site, content: RecordDict, indices: NDArray[np.intp]) -> dict[str, float]:
    """The noisy counts of the patients of these sequences, by the weights that are loaded."""
    plan = site.plan
    cost = RoundCost.of_scores(plan, site.cohort.count_patients(indices))
    with _paid(site, content, indices, cost):
        cohort = site.cohort
        probabilities = predict_always(site.model, cohort, indices, site.device)
        exact = soft_counts.count(probabilities, cohort.labels[indices], cohort.patients[indices])
        return noisy_counts(exact, plan.findings, cost.noise)


def _as_used(site: Site, content: RecordDict, weights: wire.Weights, number: int) -> None:
    """Load the weights after round `number` as the site would use them: with what stays here, of that round
    too."""
    own = personal_weights(site.plan, site.model, site.memory_of(content), number + 1)
    wire.set_weights(site.model, {**weights, **own})


@app.evaluate("own")
def show_own_model(message: Message, context: Context) -> Message:
    """The model that the site trained alone, and how many patients it was trained on."""
    site = Site.of(context)
    site.require_plan(message.content)
    numbers = MetricRecord({wire.N_EXAMPLES: site.n_examples})
    arrays = wire.pack(site.schema.of_model.check(_own_weights(site)))
    return Message(RecordDict({wire.ARRAYS: arrays, wire.METRICS: numbers}), reply_to=message)


@app.evaluate("other")
def judge_other_model(message: Message, context: Context) -> Message:
    """The AUROC on the site's test patients of a model that another site trained alone."""
    site = Site.of(context)
    site.require_plan(message.content)
    wire.set_weights(site.model, site.schema.of_model.unpack(wire.get_arrays(message.content)))
    test = _predicted(site, "test")
    numbers = {wire.AUROC: auroc_told(site.plan, test, site.config.min_patients)}
    n_examples = len(set(test.patients.tolist()))
    return Message(
        RecordDict({wire.METRICS: MetricRecord({wire.N_EXAMPLES: n_examples, **numbers})}), reply_to=message
    )


@app.evaluate("final")
def evaluate_finally(message: Message, context: Context) -> Message:
    """Judge the last weights on the site's test patients, and the model that the site trains alone beside
    them; the reply holds FINAL."""
    site = Site.of(context)
    number = wire.get_round(message.content, 0)
    _as_used(site, message.content, site.weights_in(message.content, first=0), number)
    validation, test = _predicted(site, "validation"), _predicted(site, "test")
    alone = _alone(site) if site.plan.evaluation.alone else None
    answer = answer_finally(site.plan, validation, test, alone, site.config.min_patients)
    return Message(
        RecordDict({wire.CONFIG: ConfigRecord({wire.FINAL: answer_text(answer)})}), reply_to=message
    )


def _alone(site: Site) -> tuple[Predictions, Predictions]:
    """The validation and test patients by the model that the site trains by itself."""
    wire.set_weights(site.model, _own_weights(site))
    return _predicted(site, "validation"), _predicted(site, "test")


def _own_weights(site: Site) -> wire.Weights:
    """Of that model; it is trained now if it has not been."""
    if site.config.alone is None:
        raise DataError(
            "the plan asks for a model trained alone, and the node configuration names no folder for it"
        )
    folder = Alone(site.config.site, site.cohort, site.config.alone, site.device).train(site.plan)
    return load_file(folder / MODEL)


def _predicted(site: Site, part: str) -> Predictions:
    return predictions(site.model, site.cohort, site.cohort.split(site.plan.split)[part], site.device)
