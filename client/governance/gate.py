"""The one gate of a site: the same ordered chain for everything that comes in, and for everything that goes
out.

In: audit -> kind -> plan -> approval -> policy -> run and round.  Out: policy and egress check -> audit.
"""

import contextlib
import datetime
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from flwr.app import Error, Message, MessageType, RecordDict
from pydantic import JsonValue

from client.governance.approval import Approvals
from client.governance.egress import ALLOWED, KEEPS_CROSS, KEEPS_FINAL, check_reply, public_reason
from client.governance.ledger import Budget
from client.governance.order import Order, require_run_name
from client.governance.policy import Policy
from client.governance.witness import Witness
from common import wire
from common.audit import AuditLog, Fact
from common.errors import RefusedError, WireError
from common.parsing import parse_json
from common.plan import Plan
from common.text import printable
from common.waiting import MAX_PLAN_CHARS, Waiting

log = logging.getLogger("pneumofed.gate")

MAX_REASON = 400  # characters
MAX_NUMBERS = 500  # of one message in the audit log


@dataclass(frozen=True)
class Admitted:
    """A request that may be worked on, and under which plan."""

    request: Message
    plan: Plan
    schema: wire.Schema
    cohort: str
    """What the cohort was when the request came in."""
    policy: Policy
    """And the policy."""


class Gate:
    """Judges messages under the policy that holds at this moment."""

    def __init__(
        self, approvals: Approvals, audit: AuditLog, cohort_of: Callable[[Plan], str], ledger: Path
    ) -> None:
        """`cohort_of` gives the identity of a plan's cohort at this moment; `ledger` is the privacy ledger's
        file."""
        self._approvals, self._audit, self._cohort_of = approvals, audit, cohort_of
        self._witness = Witness(ledger, audit)
        self._order = Order(approvals, self._witness)

    def admit(self, request: Message, policy: Policy) -> Admitted:
        """Let a request in.

        Raises:
            RefusedError, WireError: it is not let in; the text may be sent back.
            OSError: the audit log cannot be written: nothing may be done then.
        """
        self._audit.add("received", **_describe(request))
        kind = request.metadata.message_type
        if kind not in ALLOWED or not request.has_content():
            raise RefusedError(
                f"found a message of type {kind[:40]!r}, this site answers {', '.join(sorted(ALLOWED))}"
            )
        plan = self._approved_plan(request)
        _require_allowed(kind, plan, policy)
        cohort = self._cohort_of(plan)
        self._order.admit(request, plan, cohort)
        self._audit.add("admitted", kind=kind, plan=plan.sha256, message=request.metadata.message_id)
        return Admitted(request, plan, self._approvals.schema(plan.sha256), cohort, policy)

    def show(self, waiting: Waiting) -> None:
        """Keep the plan of a run whose turn has not come, for somebody here to decide about it.

        Raises:
            RefusedError: it is not what it claims to be, or too many wait already.
            OSError: the audit log cannot be written.
        """
        _require_hash(waiting.sha256)
        require_run_name(waiting.run)
        before = self._approvals.pending()
        self._approvals.propose(_parse_plan(waiting.plan), waiting.sha256)
        with contextlib.suppress(RefusedError):  # it awaits its approval: that is what it is shown for
            self._approvals.require(waiting.sha256)
            self._approvals.require_run(waiting.sha256, waiting.run, begins=False)
        if waiting.sha256 in self._approvals.pending() and waiting.sha256 not in before:
            self._audit.add("shown", plan=waiting.sha256, run=waiting.run)

    def _approved_plan(self, request: Message) -> Plan:
        sha256 = wire.get_text(request.content, wire.PLAN_SHA256)
        _require_hash(sha256)
        config = request.content.config_records[wire.CONFIG]
        text = config.get(wire.PLAN)
        if isinstance(text, str):
            self._approvals.propose(_parse_plan(text), sha256)
        return self._approvals.require(sha256)

    def release(self, admitted: Admitted, reply: Message, policy: Policy) -> Message:
        """The reply as it may leave; an error reply, if it may not.

        Raises:
            OSError: the audit log cannot be written: nothing may leave then.
        """
        if reply.has_error():
            log.error("%s failed: %s", admitted.request.metadata.message_type, reply.error.reason)
            return self.refuse(admitted.request, public_reason(reply), reply.error.code)
        try:
            self._require_still(admitted, policy)
            content = self._as_told(admitted, _checked(admitted, reply.content, policy), policy)
        except (WireError, RefusedError) as e:
            log.error("kept a reply back: %s", e)
            public = (
                str(e)
                if isinstance(e, RefusedError)
                else "the site kept its answer back: it is not what the plan agrees on"
            )
            return self.refuse(admitted.request, public, wire.SITE_REFUSES)
        answer = Message(content, reply_to=admitted.request)
        if admitted.plan.privacy is not None:
            self._witness.note()
        self._audit.add("sent", plan=admitted.plan.sha256, **_describe(answer))
        return answer

    def reconsider(self, admitted: Admitted, answer: Message, policy: Policy) -> Message:
        """An answer that was released and did not arrive, as the policy of now has it; or a refusal, if what
        was decided since keeps it back. Raises OSError as `release` does."""
        if answer.has_error():
            return answer
        try:
            self._require_still(admitted, policy)
            content = _checked(admitted, answer.content, policy)
        except (WireError, RefusedError) as e:
            return self.refuse(admitted.request, str(e))
        if content.object_id == answer.content.object_id:
            return answer
        answer = Message(content, reply_to=admitted.request)
        self._audit.add("sent", plan=admitted.plan.sha256, **_describe(answer))
        return answer

    def _require_still(self, admitted: Admitted, policy: Policy) -> None:
        """What was decided while the answer was worked on holds for it."""
        plan = self._approvals.require(admitted.plan.sha256)
        _require_allowed(admitted.request.metadata.message_type, plan, policy)
        if self._cohort_of(plan) != admitted.cohort:
            raise RefusedError("this site's cohort was changed while the answer was worked on")
        budget = Budget(policy.epsilon, policy.delta)
        if plan.privacy is not None and budget != Budget(admitted.policy.epsilon, admitted.policy.delta):
            run = wire.get_text(admitted.request.content, wire.RUN)
            self._witness.require_within(budget, plan.sha256, run)

    def _as_told(self, admitted: Admitted, content: RecordDict, policy: Policy) -> RecordDict:
        told = self._order.as_told(admitted.request, admitted.plan, content, admitted.cohort)
        # by the policy of now, which may be stricter than when it was answered first
        return content if told is content else _checked(admitted, told, policy)

    def refuse(self, request: Message, reason: str, code: int = wire.SITE_REFUSES) -> Message:
        """An error reply, written down. Raises OSError as `release` does."""
        reason = printable(reason, MAX_REASON)
        answer = Message(Error(code, reason), reply_to=request)
        self._audit.add(
            "refused",
            answers=request.metadata.message_id,
            kind=printable(request.metadata.message_type, 40),
            reason=reason,
        )
        return answer

    def note_unreadable(self, why: str) -> None:
        """Write down that something came which nobody can be answered for."""
        self._audit.add("unreadable", why=printable(why, MAX_REASON))

    def abandon(self, request: Message, why: str) -> None:
        """Write down that a request is not worked on any more, and not answered."""
        self._audit.add("abandoned", answers=request.metadata.message_id, why=why)


def _require_hash(sha256: str) -> None:
    if len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef"):
        raise RefusedError("the plan's hash is not a SHA-256 in hex")


def _require_allowed(kind: str, plan: Plan, policy: Policy) -> None:
    """Raises RefusedError for what the policy does not allow at this moment."""
    if objections := policy.objections(plan):
        raise RefusedError("this site's policy: " + "; ".join(objections))
    if closed := policy.closed(datetime.datetime.now()):
        raise RefusedError(closed)
    if kind == MessageType.EVALUATE and not policy.metrics:
        raise RefusedError("this site's policy keeps its metrics")
    if kind == wire.EVALUATE_FINAL and not (policy.metrics and policy.final):
        raise RefusedError(KEEPS_FINAL)
    if kind in wire.CROSSING and not policy.crosses:
        raise RefusedError(KEEPS_CROSS)


def _checked(admitted: Admitted, content: RecordDict, policy: Policy) -> RecordDict:
    return check_reply(
        admitted.request.metadata.message_type, content, admitted.schema, policy, admitted.plan
    )


def _describe(message: Message) -> dict[str, Fact]:
    """What the audit log keeps of a message: kind, run, round, plan, size and hash; of the contents, the
    numbers."""
    facts: dict[str, Fact] = {"kind": message.metadata.message_type[:40], "sha256": message.object_id}
    if message.metadata.message_id:
        facts["message"] = message.metadata.message_id
    if message.metadata.reply_to_message_id:
        facts["answers"] = message.metadata.reply_to_message_id
    if not message.has_content():
        return facts
    arrays = [array for record in message.content.array_records.values() for array in record.values()]
    facts |= {"tensors": len(arrays), "bytes": sum(len(array.data) for array in arrays)}
    for record in message.content.config_records.values():
        facts |= {_COLUMNS[k]: str(v)[:64] for k, v in record.items() if k in _COLUMNS}
        if wire.FINAL in record and message.metadata.reply_to_message_id:  # ours, which was checked
            facts["final"] = str(record[wire.FINAL])[: wire.LONGEST[wire.FINAL]]
    return facts | _describe_numbers(message)


def _describe_numbers(message: Message) -> dict[str, Fact]:
    """Every number of a message, up to a bound that no answer of ours reaches; what is over it is counted."""
    values = [pair for metrics in message.content.metric_records.values() for pair in metrics.items()]
    if not values:
        return {}
    kept = {
        name[:40]: float(value) if isinstance(value, float) and math.isfinite(value) else
        value if isinstance(value, int) else None
        for name, value in values[:MAX_NUMBERS]
    }  # fmt: skip
    left_out = len(values) - MAX_NUMBERS
    return {"numbers": kept} | ({"numbers_left_out": left_out} if left_out > 0 else {})


_COLUMNS = {wire.PLAN_SHA256: "plan", wire.RUN: "run", wire.ROUND: "round"}


def _parse_plan(text: str) -> dict[str, JsonValue]:
    try:
        tree = parse_json(text) if len(text) <= MAX_PLAN_CHARS else None
    except ValueError:
        tree = None
    if not isinstance(tree, dict):
        raise RefusedError("what was sent as the plan is not one")
    return tree
