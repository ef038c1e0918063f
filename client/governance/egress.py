"""The egress check, an allow-list: the agreed tensors and the agreed numbers leave a site, and nothing else
does.

What passes is rebuilt from the checked values, so that nothing can ride along.
"""

import math

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict

from client.governance.policy import Policy
from common import wire
from common.codec import Coder
from common.errors import RefusedError, WireError
from common.plan import Plan
from common.results.final import answer_text, read_answer
from common.secure import messages as secure
from common.secure.levels import n_integers, widths

ALLOWED = {
    MessageType.QUERY: {wire.CONFIG, wire.METRICS},
    MessageType.TRAIN: {wire.ARRAYS, wire.METRICS},
    MessageType.EVALUATE: {wire.METRICS},
    wire.EVALUATE_FINAL: {wire.CONFIG},
    wire.EVALUATE_OWN: {wire.ARRAYS, wire.METRICS},
    wire.EVALUATE_OTHER: {wire.METRICS},
    secure.KEYS: {wire.CONFIG, wire.METRICS},
    secure.SHARES: {wire.CONFIG},
    secure.AGREE: {wire.CONFIG},
    secure.UNMASK: {wire.CONFIG},
}
"""Message type -> the records of its reply, all of them and no others."""


def check_reply(
    kind: str, content: RecordDict, schema: wire.Schema, policy: Policy, plan: Plan
) -> RecordDict:
    """The content that may leave, rebuilt. Under a plan with privacy, no number that tells of the patients
    may.

    Raises:
        WireError: a record, tensor or number is missing, extra, of another shape or type, not finite, or too
        large.
        RefusedError: the policy keeps it: too few patients are behind it, or metrics stay at the site.
    """
    if set(content) != ALLOWED[kind]:
        raise WireError(
            f"found the records {sorted(content)} in a reply to {kind}, expected {sorted(ALLOWED[kind])}"
        )
    if kind == MessageType.QUERY:
        return _query(content, policy, plan)
    if kind == wire.EVALUATE_FINAL:
        return _final(content, policy, plan)
    if kind in wire.CROSSING:
        return _crossing(kind, content, schema, policy)
    if kind in secure.STAGES:
        return _stage(kind, content, policy, plan)
    names = wire.TRAIN_NUMBERS if kind == MessageType.TRAIN else wire.evaluate_numbers(plan)
    numbers = wire.check_numbers(content, names)
    if any(math.isinf(value) for value in numbers.values()):
        raise WireError("found infinity among the numbers")
    n_patients = int(numbers[wire.N_EXAMPLES])
    if plan.privacy is not None:
        _require_silence(kind, numbers, plan)
    elif n_patients < policy.min_patients:
        raise RefusedError(
            f"fewer than {policy.min_patients} patients are behind this answer, the policy's minimum"
        )
    if kind == MessageType.EVALUATE:
        if not policy.metrics:
            raise RefusedError("this site's policy keeps its metrics")
        return RecordDict({wire.METRICS: MetricRecord({**numbers, wire.N_EXAMPLES: n_patients})})
    if not policy.metrics:
        numbers[wire.LOSS] = math.nan
    arrays = _arrays(wire.get_arrays(content), schema, plan)
    return RecordDict(
        {wire.ARRAYS: arrays, wire.METRICS: MetricRecord({**numbers, wire.N_EXAMPLES: n_patients})}
    )


def _stage(kind: str, content: RecordDict, policy: Policy, plan: Plan) -> RecordDict:
    """A stage of secure aggregation: keys, sealed shares, a signature or revealed shares, by their shape."""
    told = RecordDict()
    if kind == secure.KEYS:
        n_patients = int(wire.check_numbers(content, ())[wire.N_EXAMPLES])
        if plan.privacy is None and n_patients < policy.min_patients:
            raise RefusedError(
                f"fewer than {policy.min_patients} patients are at this site, its policy's minimum"
            )
        if plan.privacy is not None and n_patients != wire.PRIVATE_WEIGHT:
            raise WireError("found a number of patients under a plan with privacy")
        told[wire.METRICS] = MetricRecord({wire.N_EXAMPLES: n_patients})
    key = secure.SAID_AT[kind]
    if set(content.config_records[wire.CONFIG]) != {key}:
        raise WireError(f"found other texts than a site says at the stage {kind}")
    value = (
        secure.take_signature(content)
        if key == secure.SIGNATURE
        else secure.take(content, key, secure.KINDS[key])
    )
    secure.put(told, key, value)
    return told


def _arrays(arrays: ArrayRecord, schema: wire.Schema, plan: Plan) -> ArrayRecord:
    """The update, packed anew; its size is bounded by what the plan's model needs."""
    if plan.aggregation.secure:
        return secure.repacked(arrays, n_integers(plan, schema.shapes), widths(plan))
    if (coder := Coder.of(plan, schema)) is not None:
        return coder.pack(coder.rebuilt(coder.payload_of(arrays)))
    return wire.pack(schema.unpack(arrays))


def _require_silence(kind: str, numbers: dict[str, float], plan: Plan) -> None:
    """But for the noisy counts of a plan that has them told."""
    assert plan.privacy is not None
    noisy = kind == MessageType.EVALUATE and plan.privacy.threshold
    free = wire.evaluate_numbers(plan) if noisy else (wire.STEPS,)
    told = [
        name
        for name, value in numbers.items()
        if name not in (wire.N_EXAMPLES, *free) and not math.isnan(value)
    ]
    unasked = kind == MessageType.EVALUATE and not noisy
    if unasked or told or numbers[wire.N_EXAMPLES] != wire.PRIVATE_WEIGHT:
        raise WireError(f"found numbers about patients ({', '.join(told) or kind}) under a plan with privacy")


def _query(content: RecordDict, policy: Policy, plan: Plan) -> RecordDict:
    """Name, device and counts; what too few patients are behind is withheld (NaN)."""
    numbers = wire.check_numbers(content, wire.query_numbers(plan.findings))
    n_patients = int(numbers[wire.N_EXAMPLES])
    if plan.privacy is not None:
        _require_silence(MessageType.QUERY, numbers, plan)
    elif n_patients < policy.min_patients:
        raise RefusedError(
            f"fewer than {policy.min_patients} patients are at this site, its policy's minimum"
        )
    counts = _without_small(
        {name: n for name, n in numbers.items() if name != wire.N_EXAMPLES},
        policy.min_patients,
        plan.findings,
    )
    texts = {key: wire.get_text(content, key) for key in (wire.SITE, wire.DEVICE)}
    if plan.codec.name != "none":
        texts[wire.HOLDS] = wire.get_identity(content, wire.HOLDS)
    if set(content.config_records[wire.CONFIG]) != set(texts) or any(
        len(text) > wire.MAX_TEXT for text in texts.values()
    ):
        raise WireError("found other texts than the site's name and device")
    metrics = MetricRecord({wire.N_EXAMPLES: n_patients, **counts})
    return RecordDict({wire.CONFIG: ConfigRecord(dict(texts)), wire.METRICS: metrics})


def _final(content: RecordDict, policy: Policy, plan: Plan) -> RecordDict:
    """Scores and cells; too few patients are behind none of them."""
    if not (policy.metrics and policy.final):
        raise RefusedError(KEEPS_FINAL)
    answer = read_answer(wire.get_text(content, wire.FINAL), plan.findings, plan.evaluation.alone)
    told = [answer.federated.n_patients, *(cell.n_patients for cell in answer.cells())]
    if min(told) < policy.min_patients:
        raise RefusedError(
            f"fewer than {policy.min_patients} patients are behind a final number, the policy's minimum"
        )
    if set(content.config_records[wire.CONFIG]) != {wire.FINAL}:
        raise WireError("found other texts than the final answer")
    return RecordDict({wire.CONFIG: ConfigRecord({wire.FINAL: answer_text(answer)})})


def _crossing(kind: str, content: RecordDict, schema: wire.Schema, policy: Policy) -> RecordDict:
    """The site's own model; or how good another site's is here."""
    if not policy.crosses:
        raise RefusedError(KEEPS_CROSS)
    is_own = kind == wire.EVALUATE_OWN
    numbers = wire.check_numbers(content, () if is_own else (wire.AUROC,))
    n_patients = int(numbers[wire.N_EXAMPLES])
    if n_patients < policy.min_patients:
        raise RefusedError(
            f"fewer than {policy.min_patients} patients are behind this answer, the policy's minimum"
        )
    told = RecordDict({wire.METRICS: MetricRecord({**numbers, wire.N_EXAMPLES: n_patients})})
    if is_own:
        told[wire.ARRAYS] = wire.pack(schema.of_model.unpack(wire.get_arrays(content)))
    return told


KEEPS_FINAL = "this site's policy keeps its final scores (policy.final)"
KEEPS_CROSS = "this site's policy keeps its own model, and judges no other site's (policy.cross)"


def _without_small(counts: dict[str, float], least: int, findings: tuple[str, ...]) -> dict[str, float]:
    """NaN for each count under `least`; and for all that with it add up to a number that is told, or it could
    be worked out.

    Of the training patients, whose number is told, nobody (0) may be said to be in a class, but not one or a
    few.
    """
    kept = {name: counts[name] if counts[name] >= least else math.nan for name in wire.SPLITS}
    groups: list[tuple[tuple[str, ...], float]] = [(wire.LENGTHS, 0.0)]
    for finding in findings:
        pair = (wire.positive(finding), wire.negative(finding))
        groups.append(
            (pair, counts[wire.N_TRAIN] - sum(counts[name] for name in pair))
        )  # and those of whom nobody knows
    for names, rest in groups:
        tell = not any(0 < n < least for n in (*(counts[name] for name in names), rest))
        kept |= {name: counts[name] if tell else math.nan for name in names}
    return kept


def public_reason(reply: Message) -> str:
    """What of an error may leave: our own refusals in full, of everything else only that it happened."""
    if reply.error.code == wire.SITE_REFUSES:
        return str(reply.error.reason)[: wire.MAX_REASON]
    if reply.error.code == wire.SITE_FAILS:
        return "the site's data or settings do not allow this; its own log says why"
    return "the site's training failed; its own log says why"
