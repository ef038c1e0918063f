"""What people see is what they approve: texts of others at the terminal and in the log."""

import pytest

from tests.helpers.texts import HOSTILE


@pytest.mark.parametrize("text", HOSTILE)
def test_a_reason_is_printable_in_the_audit_log_and_in_the_answer(site, text):
    admitted = site.admit("train", 1)
    answer = site.gate.refuse(admitted.request, text * 1000)
    assert answer.error.reason.isprintable()
    assert len(answer.error.reason) <= 400


@pytest.mark.parametrize("patient", ["=HYPERLINK(1)", "+1", "-1+2", "@SUM(A1)", "\tx"])
def test_no_patient_id_is_a_formula_in_a_table(tmp_path, patient):
    """predictions.csv is opened with a spreadsheet."""
    import csv

    from client.imaging.outcome import Tally
    from client.prediction.predict import Refusal, write_predictions
    from common.handover import Handed
    from tests.helpers.plans import small_plan

    handed = Handed(tmp_path, small_plan(), {}, "", float("nan"), {})
    write_predictions(tmp_path, handed, [Refusal(patient, "too short")], Tally())
    with (tmp_path / "predictions.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["patient"] == f"'{patient}"
