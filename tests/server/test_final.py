"""At a run's end every site is asked once; what one of them sends or does not send costs the others
nothing."""

from dataclasses import replace

import pytest
from flwr.app import ConfigRecord, Error, Message, RecordDict

from common import wire
from common.results.final import answer_text
from server.checkpoint import Chosen
from server.final import ask_finally
from server.roster import Roster
from tests.helpers.grids import START, ScriptedGrid
from tests.helpers.plans import small_plan
from tests.helpers.results import final_answer, verdict

PLAN = small_plan(evaluation={"final": True}, federation={"deadline_s": 0.3})
GOOD = answer_text(final_answer())
BAD = {
    "an error": (Error(wire.SITE_REFUSES, "this site's policy keeps it"), "this site's policy keeps it"),
    "rubbish": ("{", "damaged"),
    "a model alone that nobody asked for": (
        answer_text(replace(final_answer(), alone=verdict(0.5))),
        "something of a model trained alone",
    ),
    "another record": (RecordDict({}), "the text 'final' is missing"),
    "a text without end": ("x" * 600_000, "600000 characters"),
}


def ask(answer_of, silent=()):
    """What the server learns of three sites; `answer_of` gives what node 2 sends, the others are honest."""
    questions = []

    def script(node, message):
        questions.append((node, message.metadata.message_type, wire.get_round(message.content)))
        answer = answer_of if node == 2 else GOOD
        if isinstance(answer, Error):
            return Message(answer, reply_to=message)
        content = (
            RecordDict({wire.CONFIG: ConfigRecord({wire.FINAL: answer})})
            if isinstance(answer, str)
            else answer
        )
        return Message(content, reply_to=message)

    report = ask_finally(ScriptedGrid(script, 3, silent), PLAN, Chosen(PLAN.rounds, START, None), Roster())
    return report, sorted(questions)


def test_each_site_is_asked_once_for_the_last_round():
    report, questions = ask(GOOD)
    assert questions == [(node, wire.EVALUATE_FINAL, PLAN.rounds) for node in (1, 2, 3)]
    assert list(report.sites) == ["site-1", "site-2", "site-3"]
    assert report.sites["site-1"] == final_answer()
    assert report.silent == {}


@pytest.mark.parametrize(("answer", "why"), BAD.values(), ids=BAD)
def test_what_is_off_costs_its_site_alone(answer, why):
    report, _ = ask(answer)
    assert list(report.sites) == ["site-1", "site-3"]
    assert why in report.silent["site-2"]


def test_a_silent_site_is_named():
    report, _ = ask(GOOD, silent=(3,))
    assert list(report.sites) == ["site-1", "site-2"]
    assert report.silent == {"site-3": "no answer before the deadline"}


def test_more_test_patients_than_were_declared_are_refused():
    report, _ = ask(answer_text(final_answer(n=200)))
    assert list(report.sites) == ["site-1", "site-3"]
    assert report.silent["site-2"] == "tells of 400 test patients, declared were 80"
