"""What an audit says at its end: what was promised beside what was found."""

import math
from dataclasses import replace
from pathlib import Path

from common.metrics import Estimate
from common.results.attacks import CanaryAttack, Inversion, Membership, PrivacyAudit
from simulation.summary import audit_lines

PLAIN = CanaryAttack(canaries=40, guesses=20, right=15, auroc=0.7, epsilon_at_least=0.312)


def test_an_audit_says_what_was_promised_and_what_was_found():
    audit = PrivacyAudit(
        site="north", plan="small", plan_sha256="0", n_patients=40, delta=1e-5, epsilon_of_run=8.0,
        epsilon_in_ledger=8.0, private=replace(PLAIN, right=11, epsilon_at_least=0.0), plain=PLAIN,
        membership=Membership(n_members=9, n_others=9, auroc=Estimate(0.61, 0.5, 0.7, 0.05), found_at_1_percent=0.0),
        inversion=Inversion(plain=0.91, private=0.02),
    )  # fmt: skip
    text = audit_lines(audit, Path("out"))
    assert "with privacy: epsilon at least 0.000 (11 of 20 guesses right), at most 8.000" in text
    assert "without privacy: epsilon at least 0.312 (15 of 20 guesses right), no upper bound" in text
    assert "AUROC 0.610" in text
    assert "without privacy 0.910, with privacy 0.020" in text
    assert text.endswith("report, which shows a patient's images: out/report.html")
    open_ = replace(audit, private=None, membership=None, inversion=Inversion(plain=0.91, private=math.nan))
    text = audit_lines(open_, Path("out"))
    assert "with privacy" not in text.replace("without privacy", "")
    assert "membership" not in text
