"""The Flower ClientApp: `query` (who is there), `train`, `evaluate` and at the end `evaluate.final`, `.own`
and `.other`, under the one plan that the site approved.

What it has at hand is a `Site`. Under privacy paid.py trains and judges; masked.py takes part in secure
aggregation.
"""

from collections.abc import Mapping

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from safetensors.numpy import load_file

from client import masked
from client.alone import Alone
from client.compute.device import describe
from client.final import answer_finally, auroc_told
from client.imaging.survey import survey
from client.methods import personal_weights, train_site
from client.methods.memory import SiteMemory
from client.methods.task import Task
from client.paid import judge_privately, train_privately
from client.site import Site
from client.training.evaluate import numbers_for, predict_logits, predictions
from client.training.local import Trained
from common import wire
from common.errors import DataError, RefusedError
from common.handover import MODEL
from common.plan import evaluates
from common.results.final import answer_text
from common.results.form import Result
from common.scores import Predictions
from common.secure import messages as secure

app = ClientApp()
Records = dict[str, ArrayRecord | ConfigRecord | MetricRecord]


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
    return Message(RecordDict({wire.CONFIG: texts, **_counted(n_examples, counts)}), reply_to=message)


_COUNTS = {wire.N_TRAIN: "train", wire.N_VALIDATION: "validation", wire.N_TEST: "test"}


def _counted(n_examples: int, numbers: Mapping[str, float] | None = None) -> Records:
    """The numbers of an answer, and of how many patients they are."""
    return {wire.METRICS: MetricRecord({wire.N_EXAMPLES: n_examples, **(numbers or {})})}


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train from the global weights; the reply holds the update local - global and TRAIN_NUMBERS."""
    site, content = Site.of(context), message.content
    start = site.weights_in(content)
    if site.plan.aggregation.secure:
        masked.join(site, content)
    private = site.plan.privacy is not None
    done, update = (train_privately if private else _train)(site, content, start)
    numbers = {wire.LOSS: done.loss, wire.STEPS: done.steps, wire.SECONDS: done.seconds}
    arrays = _packed(site, content, start, update)
    return Message(RecordDict({wire.ARRAYS: arrays, **_counted(site.n_examples, numbers)}), reply_to=message)


def _train(site: Site, content: RecordDict, start: wire.Weights) -> tuple[Trained, wire.Weights]:
    """The plan's method, with what it keeps here."""
    memory, number = site.memory_of(content), wire.get_round(content)
    if site.plan.strategy.method.control:  # what the server never added is no control variate
        memory.drop_after(wire.get_answered(content, number - 1))
        _require_newest(memory, wire.get_answered(content))
    work = (site.model, site.cohort, site.plan, site.config.site, number, site.device)
    return train_site(Task(*work, start, memory))


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
        return masked.pack(site, content, start, update)
    if (run := site.coded_run(content)) is not None:
        return run.coder.pack(run.sent(update, site.sending(content), run.coder.encode))
    return wire.pack(update)


@app.train("keys")
def show_keys(message: Message, context: Context) -> Message:
    """The site's keys of a round of secure aggregation, and how many patients it will train on."""
    site = Site.of(context)
    return _told(message, secure.ADVERT, masked.begin(site, message.content), _counted(site.n_examples))


@app.train("shares")
def share_secrets(message: Message, context: Context) -> Message:
    """To each peer a share of the site's secrets, encrypted."""
    return _told(message, secure.SEALED, masked.share(Site.of(context), message.content))


@app.train("agree")
def agree_on_survivors(message: Message, context: Context) -> Message:
    """The site's word for whose updates are summed."""
    survivors = secure.take(message.content, secure.SURVIVORS, secure.Survivors)
    begun = masked.current(Site.of(context), message.content)
    return _told(message, secure.SIGNATURE, begun.agree(survivors))


@app.train("unmask")
def reveal_shares(message: Message, context: Context) -> Message:
    """The shares that take the masks off the sum."""
    signatures = secure.take(message.content, secure.SIGNATURES, secure.Signatures)
    begun = masked.current(Site.of(context), message.content)
    return _told(message, secure.REVEALED, begun.reveal(signatures))


def _told(message: Message, key: str, value: Result | str, beside: Records | None = None) -> Message:
    content = RecordDict(beside)
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
        numbers, n_examples = judge_privately(site, message.content, indices), wire.PRIVATE_WEIGHT
    else:
        logits = predict_logits(site.model, site.cohort, indices, site.device)
        numbers = numbers_for(site.cohort, indices, logits, site.plan)
        n_examples = site.cohort.count_patients(indices)
    return Message(RecordDict(_counted(n_examples, numbers)), reply_to=message)


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
    arrays = wire.pack(site.schema.of_model.check(_own_weights(site)))
    return Message(RecordDict({wire.ARRAYS: arrays, **_counted(site.n_examples)}), reply_to=message)


@app.evaluate("other")
def judge_other_model(message: Message, context: Context) -> Message:
    """The AUROC on the site's test patients of a model that another site trained alone."""
    site = Site.of(context)
    site.require_plan(message.content)
    wire.set_weights(site.model, site.schema.of_model.unpack(wire.get_arrays(message.content)))
    test = _predicted(site, "test")
    numbers = {wire.AUROC: auroc_told(site.plan, test, site.config.min_patients)}
    n_examples = len(set(test.patients.tolist()))
    return Message(RecordDict(_counted(n_examples, numbers)), reply_to=message)


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
