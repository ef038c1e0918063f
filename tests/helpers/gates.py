"""A site's gate as a curious server meets it, with one approved plan."""

from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict

from client.governance.approval import Approvals
from client.governance.gate import Gate
from client.governance.policy import Policy
from common import wire
from common.audit import AuditLog, read_entries
from common.models import build_model
from common.results.final import answer_text
from tests.helpers.plans import small_plan
from tests.helpers.results import final_answer

PLAN = small_plan(rounds=6, evaluation={"every": 2})
WEIGHTS = wire.get_weights(build_model(PLAN))


def weights(k: int) -> wire.Weights:
    return {name: w + k for name, w in WEIGHTS.items()}


class Site:
    """One hospital: its decisions, its gate, and a ClientApp that answers what it is given to answer."""

    def __init__(self, folder, plan=PLAN):
        self.plan, self.folder, self.cohort, self.policy = (
            plan,
            folder,
            "cohort 1",
            Policy(min_patients=10),
        )
        self.approvals = Approvals(folder / "plans")
        self.approvals.propose(plan.model_dump(mode="json"), plan.sha256)
        self.approvals.approve(plan.sha256)
        self.restart()

    def restart(self):
        audit = AuditLog(self.folder / "audit.log")
        self.gate = Gate(
            Approvals(self.folder / "plans"), audit, lambda plan: self.cohort, self.folder / "ledger.sqlite"
        )

    def admit(self, kind, number=1, k=0, run="r1", **more):
        config = {wire.PLAN_SHA256: self.plan.sha256, wire.RUN: run, **more}
        records = {wire.CONFIG: ConfigRecord(config | ({} if kind == "query" else {wire.ROUND: number}))}
        if kind != "query":
            records[wire.ARRAYS] = wire.pack(weights(k))
        message = Message(RecordDict(records), 1, kind)
        message.metadata.__dict__["_message_id"] = message.object_id
        return self.gate.admit(message, self.policy)

    def release(self, admitted, **changes):
        kind = admitted.request.metadata.message_type
        return self.gate.release(
            admitted,
            Message(_honest(kind, changes), reply_to=admitted.request),
            self.policy,
        )

    def ask(self, kind, number=1, k=0, run="r1", **changes):
        return self.release(self.admit(kind, number, k, run), **changes)

    def events(self):
        return [entry.event for entry in read_entries(self.folder / "audit.log")]


def _honest(kind, changes):
    if kind == "train":
        numbers = {
            wire.N_EXAMPLES: 50,
            wire.LOSS: 0.5,
            wire.STEPS: 4,
            wire.SECONDS: 1.0,
        }
        return RecordDict(
            {
                wire.ARRAYS: wire.pack(WEIGHTS),
                wire.METRICS: MetricRecord(numbers | changes),
            }
        )
    if kind == "evaluate":
        only = changes.pop("only", (wire.N_EXAMPLES, *wire.EVALUATE_NUMBERS))
        numbers = {**dict.fromkeys(only, 0.25), wire.N_EXAMPLES: 50} | changes
        return RecordDict({wire.METRICS: MetricRecord(numbers)})
    if kind == wire.EVALUATE_OWN:
        numbers = MetricRecord({wire.N_EXAMPLES: 50} | changes)
        return RecordDict({wire.ARRAYS: wire.pack(WEIGHTS), wire.METRICS: numbers})
    if kind == wire.EVALUATE_OTHER:
        return RecordDict({wire.METRICS: MetricRecord({wire.N_EXAMPLES: 50, wire.AUROC: 0.75} | changes)})
    if kind == wire.EVALUATE_FINAL:
        answer = answer_text(final_answer(**changes))
        return RecordDict({wire.CONFIG: ConfigRecord({wire.FINAL: answer})})
    numbers = dict.fromkeys(wire.query_numbers(PLAN.findings), 0) | {
        wire.N_EXAMPLES: 50, wire.N_TRAIN: 50, wire.N_VALIDATION: 20, "length-1": 50,
        "positive:pneumonia": 20, "negative:pneumonia": 30,
    }  # fmt: skip
    texts = ConfigRecord({wire.SITE: "st-mary", wire.DEVICE: "cpu"})
    return RecordDict({wire.CONFIG: texts, wire.METRICS: MetricRecord(numbers | changes)})
