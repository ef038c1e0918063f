"""The gate with messages as a server sends them and replies as a site gives them, good and hostile."""

import json
import math

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from safetensors.numpy import save

from client.governance.approval import Approvals
from client.governance.audit import AuditLog, read_entries, verify
from client.governance.gate import Gate
from client.governance.policy import Hours, Policy
from common import wire
from common.errors import RefusedError, WireError
from common.models import build_model
from common.plan import canonical_json
from tests.helpers.plans import small_plan

PLAN = small_plan(rounds=5)
WEIGHTS = wire.get_weights(build_model(PLAN))
POLICY = Policy(min_patients=10)


@pytest.fixture(autouse=True)
def identity():
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1


@pytest.fixture
def approvals(tmp_path):
    return Approvals(tmp_path / "plans")


@pytest.fixture
def gate(tmp_path, approvals):
    return Gate(approvals, AuditLog(tmp_path / "audit.log"), lambda plan: "a cohort")


@pytest.fixture
def approved(gate, approvals):
    approvals.propose(PLAN.model_dump(mode="json"), PLAN.sha256)
    approvals.approve(PLAN.sha256)
    return gate


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


def test_a_proposal_is_kept_and_refused_until_somebody_approves_it(gate, approvals):
    shown = {wire.PLAN: canonical_json(PLAN.model_dump(mode="json"))}
    with pytest.raises(RefusedError, match="awaits approval"):
        gate.admit(request("query", **shown), POLICY)
    approvals.approve(approvals.find(PLAN.sha256))
    assert gate.admit(request("query", **shown), POLICY).plan == PLAN


@pytest.mark.parametrize(
    "text", ["{", "[1]", "null", "x" * 200_000, "[" * 5000, json.dumps({"name": "x", "model": "import os"})]
)
def test_rubbish_instead_of_a_plan_is_refused(gate, text):
    with pytest.raises(RefusedError):
        gate.admit(request("query", **{wire.PLAN: text}), POLICY)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (lambda: request(**{wire.PLAN_SHA256: "../../etc/passwd"}), "not a SHA-256"),
        (lambda: request(**{wire.PLAN_SHA256: "0" * 64}), "never shown"),
        (lambda: request(**{wire.PLAN_SHA256: None}), "missing"),
        (lambda: request(**{wire.RUN: "../x"}), "run's name"),
        (lambda: request(**{wire.RUN: None}), "missing"),
        (lambda: request(number=6), "the plan has 5"),
        (lambda: request(number=0), "whole number"),
        (lambda: request("train.secret"), "type 'train.secret'"),
        (lambda: request("system"), "type 'system'"),
    ],
)
def test_what_the_plan_does_not_provide_for_is_refused(approved, message, said):
    with pytest.raises((RefusedError, WireError), match=said):
        approved.admit(message(), POLICY)


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        (Policy(max_rounds=2), "5 rounds"), (Policy(paused=True), "paused"), (Policy(encoders=("resnet18",)), "encoder cnn3"),
        (Policy(hours=Hours(start="00:00", end="00:00")), "works from"),
    ],
)  # fmt: skip
def test_the_policy_of_this_moment_counts_whatever_was_approved(approved, policy, said):
    with pytest.raises(RefusedError, match=said):
        approved.admit(request(), policy)


def test_a_replayed_round_is_refused_and_a_resumed_one_is_not(approved):
    approved.admit(request(number=1), POLICY)
    approved.admit(request(number=2), POLICY)
    approved.admit(request(number=2), POLICY)  # the server crashed before its checkpoint
    with pytest.raises(RefusedError, match="trained already"):
        approved.admit(request(number=1), POLICY)
    other = {name: w + 1 for name, w in WEIGHTS.items()}
    with pytest.raises(RefusedError, match="trained already"):
        approved.admit(request(number=2, weights=other), POLICY)
    with pytest.raises(RefusedError, match="approve it again"):
        approved.admit(request(number=1, **{wire.RUN: "r2"}), POLICY)


def test_an_honest_update_leaves_unchanged(approved):
    admitted = approved.admit(request(), POLICY)
    answer = approved.release(admitted, reply(admitted.request), POLICY)
    update = admitted.schema.unpack(wire.get_arrays(answer.content))
    assert all(np.array_equal(update[k], WEIGHTS[k]) for k in WEIGHTS)
    assert wire.check_numbers(answer.content, wire.TRAIN_NUMBERS)[wire.LOSS] == 0.5


def tensors(**changes):
    data = save({k: v for k, v in {**WEIGHTS, **changes}.items() if v is not None})
    return ArrayRecord({wire.PACKED: Array("uint8", (len(data),), wire.PACKED, data)})


def with_passenger():
    record = wire.pack(WEIGHTS)
    record["images"] = Array(np.zeros((64, 64), np.float32))
    return record


HOSTILE = {
    "an extra tensor": {"arrays": tensors(patient=np.zeros(4, np.float32))},
    "a second array": {"arrays": with_passenger()},
    "a missing tensor": {"arrays": tensors(scale=None)},
    "another shape": {"arrays": tensors(scale=np.zeros(7, np.float32))},
    "another type": {"arrays": tensors(scale=np.zeros(1, np.float64))},
    "NaN": {"arrays": tensors(scale=np.full(1, np.nan, np.float32))},
    "infinity": {"arrays": tensors(scale=np.full(1, -np.inf, np.float32))},
    "a number that the plan does not have": {"metrics": numbers(age=71.0)},
    "a list of numbers": {"metrics": numbers(**{wire.LOSS: [1.0] * 100})},
    "an infinite number": {"metrics": numbers(**{wire.LOSS: math.inf})},
    "an extra record": {"extra": ConfigRecord({"name": "Smith"})},
    "too few patients": {"metrics": numbers(**{wire.N_EXAMPLES: 9})},
}


@pytest.mark.parametrize("how", HOSTILE)
def test_nothing_but_what_was_agreed_leaves(approved, how, tmp_path):
    admitted = approved.admit(request(), POLICY)
    answer = approved.release(admitted, reply(admitted.request, **HOSTILE[how]), POLICY)
    assert answer.has_error()
    assert "Smith" not in answer.error.reason
    assert list(read_entries(tmp_path / "audit.log"))[-1].event == "refused"


def test_metrics_stay_if_the_policy_says_so(approved):
    closed = Policy(min_patients=10, metrics=False)
    admitted = approved.admit(request(), closed)
    left = wire.check_numbers(
        approved.release(admitted, reply(admitted.request), closed).content, wire.TRAIN_NUMBERS
    )
    assert math.isnan(left[wire.LOSS])
    with pytest.raises(RefusedError, match="keeps its metrics"):
        approved.admit(request("evaluate"), closed)


def test_small_counts_are_withheld_and_the_sites_name_is_not(approved):
    admitted = approved.admit(request("query"), POLICY)
    told = {
        wire.N_TRAIN: 40,
        wire.N_VALIDATION: 9,
        wire.N_TEST: 10,
        "positive:pneumonia": 15,
        "negative:pneumonia": 25,
    }
    counts = MetricRecord(
        {wire.N_EXAMPLES: 40, **dict(zip(wire.LENGTHS, (10, 30, 0, 0), strict=True)), **told}
    )
    about = ConfigRecord({wire.SITE: "st-mary", wire.DEVICE: "cpu"})
    answer = approved.release(
        admitted,
        Message(RecordDict({wire.CONFIG: about, wire.METRICS: counts}), reply_to=admitted.request),
        POLICY,
    )
    found = wire.check_numbers(answer.content, wire.query_numbers(PLAN.findings))
    assert math.isnan(found[wire.N_VALIDATION])
    assert (found[wire.N_TRAIN], found[wire.N_TEST], found["positive:pneumonia"], found["length-9+"]) == (
        40,
        10,
        15,
        0,
    )
    more = ConfigRecord({wire.SITE: "st-mary", wire.DEVICE: "cpu", "note": "Smith"})
    assert approved.release(
        admitted,
        Message(RecordDict({wire.CONFIG: more, wire.METRICS: counts}), reply_to=admitted.request),
        POLICY,
    ).has_error()


@pytest.mark.parametrize(
    ("told", "withheld"),
    [
        ({"positive:pneumonia": 9, "negative:pneumonia": 31}, {"positive:pneumonia", "negative:pneumonia"}),
        (
            {"positive:pneumonia": 15, "negative:pneumonia": 20},
            {"positive:pneumonia", "negative:pneumonia"},
        ),  # 5 are unknown
        ({"positive:pneumonia": 0, "negative:pneumonia": 40}, set()),
        ({"length-1": 1, "length-2-4": 39}, set(wire.LENGTHS)),
        ({"length-1": 20, "length-2-4": 20, "length-9+": 0}, set()),
        ({wire.N_TEST: 3}, {wire.N_TEST}),
    ],
)
def test_no_small_count_can_be_worked_out_from_what_is_told(approved, told, withheld):
    admitted = approved.admit(request("query"), POLICY)
    honest = {wire.N_TRAIN: 40, wire.N_VALIDATION: 10, wire.N_TEST: 10, "positive:pneumonia": 20, "negative:pneumonia": 20,
              "length-1": 40, "length-2-4": 0, "length-5-8": 0, "length-9+": 0}  # fmt: skip
    content = RecordDict({
        wire.CONFIG: ConfigRecord({wire.SITE: "st-mary", wire.DEVICE: "cpu"}),
        wire.METRICS: MetricRecord({wire.N_EXAMPLES: 40, **honest, **told}),
    })  # fmt: skip
    answer = approved.release(admitted, Message(content, reply_to=admitted.request), POLICY)
    found = wire.check_numbers(answer.content, wire.query_numbers(PLAN.findings))
    assert {name for name, value in found.items() if math.isnan(value)} == withheld


@pytest.mark.parametrize(
    ("code", "left"),
    [
        (wire.SITE_REFUSES, "plan 12"),
        (wire.SITE_FAILS, "its own log"),
        (wire.SITE_CRASHED, "its own log"),
        (99, "its own log"),
    ],
)
def test_of_an_error_only_refusals_are_told(approved, code, left):
    admitted = approved.admit(request(), POLICY)
    answer = approved.release(
        admitted, Message(Error(code, "plan 12: patient Smith"), reply_to=admitted.request), POLICY
    )
    assert left in answer.error.reason
    assert ("Smith" in answer.error.reason) is (code == wire.SITE_REFUSES)


def test_everything_is_written_down_with_hash_and_size(approved, tmp_path):
    admitted = approved.admit(request(), POLICY)
    answer = approved.release(admitted, reply(admitted.request), POLICY)
    received, let_in, sent = read_entries(tmp_path / "audit.log")
    assert (received.event, let_in.event, sent.event) == ("received", "admitted", "sent")
    assert received.facts["plan"] == PLAN.sha256
    assert received.facts["round"] == "1"
    assert sent.facts["bytes"] == len(wire.get_arrays(answer.content)[wire.PACKED].data)
    assert sent.facts["sha256"] == answer.object_id
    assert sent.facts["numbers"][wire.N_EXAMPLES] == 50
    assert verify(tmp_path / "audit.log")[0] == 3


def test_what_cannot_be_written_down_is_not_done(approved, monkeypatch):
    admitted = approved.admit(request(), POLICY)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(AuditLog, "add", full)
    with pytest.raises(OSError, match="space"):
        approved.admit(request(number=2), POLICY)
    with pytest.raises(OSError, match="space"):
        approved.release(admitted, reply(admitted.request), POLICY)
