"""audit.json: what a plan without privacy does not have is undefined, and stays so on the disk."""

import json
import math

import pytest

from common.errors import RunError
from common.metrics import Estimate
from common.results.attacks import CanaryAttack, Inversion, Membership, PrivacyAudit
from common.results.form import read, write

CANARIES = CanaryAttack(canaries=40, guesses=20, right=15, auroc=0.7, epsilon_at_least=0.3)


def audit(**changes):
    values = {
        "site": "here", "plan": "small", "plan_sha256": "0" * 64, "n_patients": 40, "delta": 1e-5,
        "epsilon_of_run": math.nan, "epsilon_in_ledger": math.nan, "private": None, "plain": CANARIES,
        "membership": None, "inversion": Inversion(plain=0.9, private=math.nan),
    }  # fmt: skip
    return PrivacyAudit(**{**values, **changes})


def test_what_a_plan_without_privacy_has_not_is_null(tmp_path):
    write(tmp_path / "audit.json", audit())
    tree = json.loads((tmp_path / "audit.json").read_text())
    assert (
        tree["private"]
        is tree["membership"]
        is tree["epsilon_of_run"]
        is tree["inversion"]["private"]
        is None
    )
    again = read(PrivacyAudit, tmp_path / "audit.json", "")
    assert math.isnan(again.epsilon_of_run)
    assert again.plain == CANARIES


def test_a_private_one_comes_back_whole(tmp_path):
    membership = Membership(
        n_members=20, n_others=20, auroc=Estimate(0.5, 0.4, 0.6, 0.05), found_at_1_percent=0.01
    )
    whole = audit(private=CANARIES, epsilon_of_run=8.0, epsilon_in_ledger=8.0, membership=membership,
                  inversion=Inversion(plain=0.9, private=0.1))  # fmt: skip
    write(tmp_path / "audit.json", whole)
    assert read(PrivacyAudit, tmp_path / "audit.json", "") == whole


def test_another_audit_is_refused(tmp_path):
    write(tmp_path / "audit.json", audit())
    tree = json.loads((tmp_path / "audit.json").read_text())
    del tree["plain"]
    (tmp_path / "audit.json").write_text(json.dumps(tree))
    with pytest.raises(RunError, match=r"plain: .*; make it again"):
        read(PrivacyAudit, tmp_path / "audit.json", "make it again")
