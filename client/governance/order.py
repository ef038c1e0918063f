"""What may be asked when, by a plan's calendar, and that the same question gets the same answer."""

import logging
from collections.abc import Mapping

from flwr.app import ConfigRecord, Message, MessageType, MetricRecord, RecordDict

from client.governance.approval import Approvals
from client.governance.calendar import Calendar, Numbers
from client.governance.witness import Witness
from common import wire
from common.errors import DataError, RefusedError
from common.plan import Plan, evaluates
from common.secure import messages as secure
from common.selection import may_be_chosen

log = logging.getLogger("pneumofed.gate")


class Order:
    """Judges requests under approved plans by what was asked and told before."""

    def __init__(self, approvals: Approvals, witness: Witness) -> None:
        self._approvals, self._witness = approvals, witness

    def admit(self, request: Message, plan: Plan, cohort: str) -> None:
        """Note that `request` is worked on, with a cohort of this identity.

        Raises:
            RefusedError: it is not its turn, or it was answered already and asks about something else now.
            WireError: it does not say what it is about.
        """
        kind, run = request.metadata.message_type, wire.get_text(request.content, wire.RUN)
        require_run_name(run)
        if kind == MessageType.QUERY:
            self._approvals.require_run(plan.sha256, run, begins=False)
            return
        number = wire.get_round(request.content, 0 if kind in wire.AT_END else 1)
        _require_planned(kind, number, plan)
        if plan.privacy is not None and kind not in secure.STAGES:
            self._require_ledger(plan, run, wire.get_answered(request.content))
        self._approvals.require_run(plan.sha256, run, begins=True)
        calendar = self._approvals.calendar(plan.sha256)
        if kind == MessageType.TRAIN:
            weights = _weights(plan, request.content)
            calendar.train(run, number, weights, cohort, self._approved(plan))
        else:
            _note(calendar, request, plan, run, number)

    def _require_ledger(self, plan: Plan, run: str, answered: int) -> None:
        try:
            self._witness.require(plan.sha256, run, answered)
        except DataError as e:
            log.error("%s", e)
            raise RefusedError(
                "this site's privacy ledger is lost, or older than what it told; its own log says what to do"
            ) from None

    def _approved(self, plan: Plan) -> str:
        """When a plan was approved last."""
        decision = self._approvals.decision(plan.sha256)
        return decision.at if decision else ""

    def as_told(self, request: Message, plan: Plan, content: RecordDict, cohort: str) -> RecordDict:
        """`content`, which is of this cohort, or what was answered before: two answers could be told apart by
        one patient.

        Raises:
            RefusedError: it is not the answer that is due.
        """
        kind, calendar = request.metadata.message_type, self._approvals.calendar(plan.sha256)
        if kind in secure.STAGES:
            return content
        if kind == MessageType.QUERY:
            return _with(content, calendar.greet(self._approved(plan), _numbers(content)))
        run = wire.get_text(request.content, wire.RUN)
        if kind == MessageType.TRAIN:
            calendar.let_go(run, wire.get_round(request.content), cohort, self._approved(plan))
            return content
        if kind == wire.EVALUATE_FINAL:
            text = calendar.tell_finally(run, wire.get_text(content, wire.FINAL))
            return RecordDict({**content, wire.CONFIG: ConfigRecord({wire.FINAL: text})})
        if kind == wire.EVALUATE_OWN:
            calendar.hand(run, wire.get_arrays(content).object_id)
            return content
        if kind == wire.EVALUATE_OTHER:
            model = wire.get_arrays(request.content).object_id
            return _with(content, calendar.tell_judged(run, model, _numbers(content)))
        return _with(content, calendar.tell(run, wire.get_round(request.content), _numbers(content)))


def require_run_name(run: str) -> None:
    """Raises RefusedError."""
    if not run.isalnum() or len(run) > 64:
        raise RefusedError("the run's name is not one of up to 64 letters and digits")


def _require_planned(kind: str, number: int, plan: Plan) -> None:
    """Raises RefusedError for a request that the plan does not have after round `number`."""
    if number > plan.rounds:
        raise RefusedError(f"found round {number}, the plan has {plan.rounds}")
    if kind == MessageType.EVALUATE and not evaluates(plan, number):
        raise RefusedError(f"the plan has no evaluation after round {number}")
    if kind in wire.AT_END and not (plan.evaluation.final and may_be_chosen(plan, number)):
        raise RefusedError(f"the plan has no final scores after round {number}")
    if kind in wire.CROSSING and not plan.evaluation.cross:
        raise RefusedError("the plan has no evaluation of models that sites train alone (evaluation.cross)")
    if kind in secure.STAGES and not plan.aggregation.secure:
        raise RefusedError("the plan has no secure aggregation")


def _note(calendar: Calendar, request: Message, plan: Plan, run: str, number: int) -> None:
    """Of what is no training."""
    kind = request.metadata.message_type
    if kind in secure.STAGES:
        calendar.prepare(run, number)
    elif kind in wire.CROSSING:
        calendar.require_told_finally(run)
        if kind == wire.EVALUATE_OTHER:
            calendar.judge(run, wire.get_arrays(request.content).object_id, plan.evaluation.cross)
    elif kind == MessageType.EVALUATE:
        keep = plan.evaluation.select == "best"
        calendar.evaluate(run, number, _weights(plan, request.content), keep=keep)
    else:
        calendar.finish(run, number, _weights(plan, request.content))


def _weights(plan: Plan, content: RecordDict) -> str:
    """What stands for the weights of a request. Where they may come as a difference the server names them,
    and the ClientApp finds out whether it told the truth before it works with them (client/coded.py)."""
    arrays = wire.get_arrays(content)
    return arrays.object_id if plan.codec.name == "none" else wire.get_identity(content, wire.WEIGHTS)


def _numbers(content: RecordDict) -> Numbers:
    fresh: Mapping[str, object] = content.metric_records[wire.METRICS]
    return {name: value for name, value in fresh.items() if isinstance(value, (int, float))}


def _with(content: RecordDict, told: Numbers) -> RecordDict:
    return RecordDict({**content, wire.METRICS: MetricRecord(dict(told))})
