"""Which request may come under which plan, whatever was asked before."""

import pytest
from flwr.app import ConfigRecord, Message, RecordDict

from client.governance.approval import Approvals
from client.governance.order import Order, require_run_name
from client.governance.witness import Witness
from common import wire
from common.audit import AuditLog
from common.errors import RefusedError
from common.secure import messages as secure
from tests.helpers.gates import WEIGHTS
from tests.helpers.plans import small_plan

FINAL = {"every": 2, "final": True}
CROSS = {**FINAL, "alone": True, "cross": 1}
WITHOUT = {
    "train": (small_plan(rounds=4), 5, "found round 5, the plan has 4"),
    "evaluate": (small_plan(rounds=4, evaluation={"every": 2}), 3, "no evaluation after round 3"),
    wire.EVALUATE_FINAL: (small_plan(rounds=4), 4, "no final scores after round 4"),
    wire.EVALUATE_OWN: (small_plan(rounds=4, evaluation=FINAL), 4, r"evaluation\.cross"),
    wire.EVALUATE_OTHER: (small_plan(rounds=4, evaluation=CROSS), 2, "no final scores after round 2"),
    secure.KEYS: (small_plan(rounds=4), 1, "no secure aggregation"),
}


def admit(folder, kind, plan, number, run="r1"):
    approvals = Approvals(folder / "plans")
    approvals.propose(plan.model_dump(mode="json"), plan.sha256)
    approvals.approve(plan.sha256)
    about = ConfigRecord({wire.PLAN_SHA256: plan.sha256, wire.RUN: run, wire.ROUND: number})
    request = Message(RecordDict({wire.CONFIG: about, wire.ARRAYS: wire.pack(WEIGHTS)}), 1, kind)
    witness = Witness(folder / "ledger.sqlite", AuditLog(folder / "audit.log"))
    Order(approvals, witness).admit(request, plan, "cohort 1")
    return approvals.calendar(plan.sha256).runs()


@pytest.mark.parametrize("kind", WITHOUT)
def test_what_the_plan_does_not_have_is_refused_and_leaves_no_trace(tmp_path, kind):
    plan, number, why = WITHOUT[kind]
    with pytest.raises(RefusedError, match=why):
        admit(tmp_path, kind, plan, number)
    assert Approvals(tmp_path / "plans").calendar(plan.sha256).runs() == {}


def test_what_is_admitted_is_noted(tmp_path):
    runs = admit(tmp_path, "train", small_plan(rounds=4), 1)
    assert (runs["r1"].round, runs["r1"].request) == (1, wire.pack(WEIGHTS).object_id)


@pytest.mark.parametrize("run", ["", "a/b", "..", "x" * 65, "a b", "\x1b[2J"])
def test_a_run_s_name_is_a_plain_word(run):
    with pytest.raises(RefusedError, match="run's name"):
        require_run_name(run)
