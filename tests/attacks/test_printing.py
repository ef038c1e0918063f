"""What people see is what they approve: texts of others at the terminal and in the log."""

import pytest

from tests.helpers.texts import HOSTILE


@pytest.mark.parametrize("text", HOSTILE)
def test_a_reason_is_printable_in_the_audit_log_and_in_the_answer(site, text):
    admitted = site.admit("train", 1)
    answer = site.gate.refuse(admitted.request, text * 1000)
    assert answer.error.reason.isprintable()
    assert len(answer.error.reason) <= 400
