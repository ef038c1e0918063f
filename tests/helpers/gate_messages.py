"""Messages as a server sends them, and replies as a site gives them."""

from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict

from client.governance.policy import Policy
from common import wire
from common.models import build_model
from tests.helpers.plans import small_plan

PLAN = small_plan(rounds=5)


WEIGHTS = wire.get_weights(build_model(PLAN))


POLICY = Policy(min_patients=10)


def request(kind="train", number=1, weights=None, **config):
    values = {
        wire.PLAN_SHA256: PLAN.sha256,
        wire.RUN: "r1",
        **({} if kind == "query" else {wire.ROUND: number}),
        **config,
    }
    records = {wire.CONFIG: ConfigRecord({k: v for k, v in values.items() if v is not None})}
    if kind != "query":
        records[wire.ARRAYS] = wire.pack(weights or WEIGHTS)
    message = Message(RecordDict(records), 1, kind)
    message.metadata.__dict__["_message_id"] = message.object_id
    return message


def numbers(**changes):
    return MetricRecord({wire.N_EXAMPLES: 50, wire.LOSS: 0.5, wire.STEPS: 4, wire.SECONDS: 1.0, **changes})


def reply(asked, arrays=None, metrics=None, **more):
    records = {wire.ARRAYS: arrays or wire.pack(WEIGHTS), wire.METRICS: metrics or numbers(), **more}
    return Message(RecordDict(records), reply_to=asked)
