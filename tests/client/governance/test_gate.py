"""The gate with messages as a server sends them and replies as a site gives them, good and hostile."""

import contextlib
import json

import pytest
from flwr.app import ArrayRecord, ConfigRecord

from client.governance.policy import Hours, Policy
from common import wire
from common.audit import AuditLog, read_entries, verify
from common.errors import RefusedError, WireError
from common.plan import Aggregation, Codec, canonical_json
from common.secure import messages as secure
from common.waiting import Waiting
from tests.helpers.gate_messages import PLAN, POLICY, WEIGHTS, reply, request


def test_a_proposal_is_kept_and_refused_until_somebody_approves_it(gate, approvals):
    shown = {wire.PLAN: canonical_json(PLAN.model_dump(mode="json"))}
    with pytest.raises(RefusedError, match="awaits approval"):
        gate.admit(request("query", **shown), POLICY)
    approvals.approve(approvals.find(PLAN.sha256))
    assert gate.admit(request("query", **shown), POLICY).plan == PLAN


def waiting(run="later", **changes):
    values = {"run": run, "sha256": PLAN.sha256, "plan": canonical_json(PLAN.model_dump(mode="json"))}
    return Waiting(**{**values, **changes})


def test_a_run_of_the_queue_is_shown_to_people_before_its_turn(gate, approvals, tmp_path):
    for _ in range(3):
        gate.show(waiting())
    assert approvals.pending() == [PLAN.sha256]
    approvals.approve(PLAN.sha256)
    gate.show(waiting())
    assert approvals.pending() == []
    approvals.require_run(PLAN.sha256, "another", begins=True)  # which uses the approval up
    for _ in range(2):
        gate.show(waiting())
    assert approvals.pending() == [PLAN.sha256]
    assert [(e.event, e.facts["run"]) for e in read_entries(tmp_path / "audit.log")] == [
        ("shown", "later")
    ] * 2
    approvals.deny(PLAN.sha256)
    gate.show(waiting())
    assert approvals.pending() == []


@pytest.mark.parametrize(
    "changes",
    [{"sha256": "0" * 64}, {"sha256": "../x"}, {"run": "../x"}, {"run": ""}, {"plan": "{"}, {"plan": "[1]"}],
)
def test_rubbish_in_the_queue_is_refused_and_leaves_nothing(gate, approvals, tmp_path, changes):
    with pytest.raises(RefusedError):
        gate.show(waiting(**changes))
    assert approvals.known() == []
    path = tmp_path / "audit.log"
    assert not path.exists() or not read_entries(path)


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


def test_with_a_codec_it_is_the_named_weights_that_a_round_is_held_to(gate, approvals):
    """They come whole, as a difference, or not at all: all three are the same question."""
    coded = PLAN.model_copy(update={"codec": Codec(name="int4")})
    approvals.propose(coded.model_dump(mode="json"), coded.sha256)
    approvals.approve(coded.sha256)
    named, other = "a" * 64, "b" * 64

    def ask(kind, number, weights, arrays=None):
        message = request(kind, number, **{wire.PLAN_SHA256: coded.sha256, wire.WEIGHTS: weights})
        message.content[wire.ARRAYS] = ArrayRecord() if arrays is None else arrays
        return gate.admit(message, POLICY)

    ask("train", 1, named)
    ask("train", 1, named, wire.pack(WEIGHTS))  # the server crashed, and sends all
    with pytest.raises(RefusedError, match="trained already"):
        ask("train", 1, other)
    ask("evaluate", 1, other)
    with pytest.raises(RefusedError, match="with other weights"):
        ask("evaluate", 1, named)
    with pytest.raises(RefusedError, match="other weights than were evaluated"):
        ask("train", 2, named)
    ask("train", 2, other)
    for wrong in ("x", "A" * 64, "a" * 63, None):
        with pytest.raises(WireError, match="weights"):
            ask("train", 3, wrong)


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


def test_what_a_server_asks_with_cannot_fill_the_audit_log(approved, tmp_path):
    """A final answer is written down whole where it is ours, and not where a request has one."""
    asked = request()
    asked.content["more"] = ConfigRecord({wire.FINAL: "x" * 400_000})
    with contextlib.suppress(RefusedError):
        approved.admit(asked, POLICY)
    assert (tmp_path / "audit.log").stat().st_size < 20_000


def test_what_cannot_be_written_down_is_not_done(approved, monkeypatch):
    admitted = approved.admit(request(), POLICY)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(AuditLog, "add", full)
    with pytest.raises(OSError, match="space"):
        approved.admit(request(number=2), POLICY)
    with pytest.raises(OSError, match="space"):
        approved.release(admitted, reply(admitted.request), POLICY)


SECURE = PLAN.model_copy(update={"aggregation": Aggregation(secure=True, threshold=2)})


def stage(kind, number=1, plan=SECURE):
    return request(kind, number, **{wire.PLAN_SHA256: plan.sha256})


@pytest.mark.parametrize("kind", secure.STAGES)
def test_a_stage_of_secure_aggregation_is_let_in_under_a_plan_that_has_it(gate, approvals, approved, kind):
    with pytest.raises(RefusedError, match="has no secure aggregation"):
        approved.admit(stage(kind, plan=PLAN), POLICY)
    approvals.propose(SECURE.model_dump(mode="json"), SECURE.sha256)
    with pytest.raises(RefusedError, match="awaits approval"):
        gate.admit(stage(kind), POLICY)
    approvals.approve(SECURE.sha256)
    assert gate.admit(stage(kind), POLICY).plan == SECURE
    with pytest.raises(RefusedError, match="paused"):
        gate.admit(stage(kind), Policy(paused=True))
    gate.admit(request(number=2, **{wire.PLAN_SHA256: SECURE.sha256}), POLICY)
    with pytest.raises(RefusedError, match="round 1 is over at this site"):
        gate.admit(stage(kind), POLICY)
    gate.admit(stage(kind, 2), POLICY)
    with pytest.raises(RefusedError, match="the plan has 5"):
        gate.admit(stage(kind, 6), POLICY)
