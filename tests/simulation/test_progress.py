"""What is shown while a simulation runs: bars on a terminal, a line a round elsewhere."""

import io

import pytest
from rich.console import Console

from common.results.rounds import Evaluation, RoundReport
from simulation.progress import ArmProgress, AuditProgress, make_progress


@pytest.fixture
def shown():
    out = io.StringIO()
    return make_progress(Console(file=out, width=200)), out


def report(number, failed=None, auroc=None):
    evaluation = None
    if auroc is not None:
        values = dict.fromkeys(("loss", "brier", "temperature", "auroc_se"), 0.1)
        evaluation = Evaluation(auroc=auroc, **values, sites={}, failed={})
    return RoundReport(
        round=number, bytes_down=1, bytes_up=1, sites={"a": {}}, failed=failed or {}, evaluation=evaluation
    )


def test_elsewhere_than_on_a_terminal_it_is_a_line_a_round(shown):
    progress, out = shown
    arm = ArmProgress(progress, "federated", 3)
    arm.started(["a", "b"], 0, 3)
    arm.replied("a", "train")
    arm.finished_round(report(1))
    arm.finished_round(report(2, {"b": "the site went away"}, 0.9126))
    first, second = out.getvalue().splitlines()
    assert first.startswith("federated: round 1, 1 sites answered")
    assert "validation AUROC 0.913, missing b" in second


def test_the_bar_follows_the_rounds_also_after_a_resume(shown):
    progress, _ = shown
    arm = ArmProgress(progress, "local-a", 5)
    arm.started(["a"], 2, 5)
    (task,) = progress.tasks
    assert (task.completed, task.total, task.fields["note"]) == (2, 5, "1 site")
    arm.replied("a", "evaluate")
    assert task.fields["note"] == "a validated"
    arm.finished_round(report(3))
    assert task.completed == 3
    arm.gathering(["a"], 2, {})
    assert task.fields["note"] == "1 of 2 sites are here"


def test_an_audit_says_once_what_it_does(shown):
    progress, out = shown
    audit = AuditProgress(progress)
    for done in range(3):
        audit("canaries, private", done, 2)
    audit("drawing a patient", 0, 1)
    assert out.getvalue().splitlines() == ["canaries, private", "drawing a patient"]
    assert [task.completed for task in progress.tasks] == [2, 0]
