"""Models that sites trained alone go round once; what one site sends or does not send costs the others
nothing."""

import numpy as np
import pytest
from flwr.app import Error, Message, MetricRecord, RecordDict

from common import wire
from common.results.final import FinalReport
from server.cross import Crossing
from server.roster import Roster
from tests.helpers.grids import SCHEMA, START, ScriptedGrid
from tests.helpers.plans import small_plan
from tests.helpers.results import final_answer

NAMES = ["site-1", "site-2", "site-3"]


def own(node):
    """The model of a site, which says whose it is."""
    return {name: np.full_like(w, node) for name, w in START.items()}


def answer(node, message):
    """An honest site's: at site 1, the model of site 2 has an AUROC of 0.12."""
    told = {wire.N_EXAMPLES: 80}
    if message.metadata.message_type == wire.EVALUATE_OWN:
        records = {wire.ARRAYS: wire.pack(own(node)), wire.METRICS: MetricRecord(told)}
    else:
        weights = SCHEMA.unpack(wire.get_arrays(message.content))
        (value,) = {float(v) for w in weights.values() for v in w.flat}
        records = {wire.METRICS: MetricRecord({**told, wire.AUROC: node / 10 + value / 100})}
    return RecordDict(records)


def crossed(folder, answer_of_2=answer, silent=(), most=2, told=NAMES):
    """What three sites say, and what was asked of whom; `answer_of_2` is what the second sends."""
    plan = small_plan(
        evaluation={"final": True, "alone": True, "cross": most}, federation={"deadline_s": 0.3}
    )
    asked = []

    def script(node, message):
        kind = message.metadata.message_type
        asked.append((node, kind))
        assert wire.get_round(message.content) == 4
        sent = answer_of_2(node, message) if node == 2 else answer(node, message)
        return None if sent is None else Message(sent, reply_to=message)

    grid, roster = ScriptedGrid(script, 3, silent), Roster()
    roster.greet(grid, plan)
    final = FinalReport(sites=dict.fromkeys(told, final_answer(alone=True)), silent={})
    told = Crossing(grid, plan, 4, SCHEMA, roster).judge(final, folder)
    return told, sorted(asked)


def test_each_model_is_judged_by_every_other_site(tmp_path):
    told, asked = crossed(tmp_path)
    assert told.auroc == {
        "site-1": {"site-2": pytest.approx(0.21), "site-3": pytest.approx(0.31)},
        "site-2": {"site-1": pytest.approx(0.12), "site-3": pytest.approx(0.32)},
        "site-3": {"site-1": pytest.approx(0.13), "site-2": pytest.approx(0.23)},
    }
    assert told.silent == {}
    assert asked == sorted(
        [(n, wire.EVALUATE_OWN) for n in (1, 2, 3)] + [(n, wire.EVALUATE_OTHER) for n in (1, 2, 3)] * 2
    )
    assert list(tmp_path.iterdir()) == []  # no hospital's model is left here


def test_no_site_is_asked_for_more_than_the_plan_has(tmp_path):
    told, asked = crossed(tmp_path, most=1)
    assert sorted(told.auroc) == ["site-1", "site-2"]
    assert {node for node, _ in asked} == {1, 2}


def test_who_told_no_final_scores_is_not_asked(tmp_path):
    told, asked = crossed(tmp_path, told=["site-1", "site-3"])
    assert told.auroc.keys() == {"site-1", "site-3"}
    assert {node for node, _ in asked} == {1, 3}


def no_model(node, message):
    return Error(wire.SITE_REFUSES, "this site's policy keeps its own model")


def infinite(node, message):
    content = answer(node, message)
    if wire.ARRAYS in content:
        content[wire.ARRAYS] = wire.pack({name: w * np.inf for name, w in own(node).items()})
    return content


def at_judging(numbers):
    def script(node, message):
        content = answer(node, message)
        if wire.ARRAYS not in content:
            content[wire.METRICS] = MetricRecord(numbers)
        return content

    return script


NOT_SHOWN = {
    "a refusal": (no_model, "policy keeps its own model"),
    "infinity": (infinite, "holds NaN or infinity"),
    "rubbish": (lambda node, message: RecordDict({}), "the record"),
}
NOT_JUDGED = {
    "an AUROC of 7": ({wire.N_EXAMPLES: 80, wire.AUROC: 7.0}, wire.AUROC),
    "more patients than declared": (
        {wire.N_EXAMPLES: 90, wire.AUROC: 0.5},
        "tells of 90 test patients, declared were 80",
    ),
    "another number": ({wire.N_EXAMPLES: 80, wire.AUROC: 0.5, wire.LOSS: 0.1}, "found the numbers"),
}


@pytest.mark.parametrize(("sent", "why"), NOT_SHOWN.values(), ids=NOT_SHOWN)
def test_who_shows_no_model_judges_none(tmp_path, sent, why):
    told, asked = crossed(tmp_path, sent)
    assert told.auroc == {
        "site-1": {"site-3": pytest.approx(0.31)},
        "site-3": {"site-1": pytest.approx(0.13)},
    }
    assert why in told.silent["site-2"]
    assert (2, wire.EVALUATE_OTHER) not in asked


@pytest.mark.parametrize(("numbers", "why"), NOT_JUDGED.values(), ids=NOT_JUDGED)
def test_a_judgement_that_is_off_costs_itself_alone(tmp_path, numbers, why):
    told, _ = crossed(tmp_path, at_judging(numbers))
    assert {site: sorted(judged) for site, judged in told.auroc.items()} == {
        "site-1": ["site-3"],
        "site-2": ["site-1", "site-3"],
        "site-3": ["site-1"],
    }
    assert why in told.silent["site-2"]


def test_who_allows_it_is_asked_until_there_are_enough(tmp_path):
    """The first by name refuses: the next is asked, and no model is shown that nobody judges."""
    told, asked = crossed(tmp_path, no_model, most=1)
    assert told.auroc.keys() == {"site-1", "site-3"}
    assert sorted(told.silent) == ["site-2"]
    assert [kind for node, kind in asked if node == 2] == [wire.EVALUATE_OWN]


def test_nobody_shows_a_model_to_nobody(tmp_path):
    told, asked = crossed(tmp_path, told=["site-3"])
    assert (told.auroc, asked) == ({}, [])


def test_a_judge_who_did_not_answer_in_time_is_asked_once(tmp_path):
    """Each time would cost everybody a deadline."""

    def shows_alone(node, message):
        return answer(node, message) if message.metadata.message_type == wire.EVALUATE_OWN else None

    told, asked = crossed(tmp_path, shows_alone)
    assert asked.count((2, wire.EVALUATE_OTHER)) == 1
    assert {owner: sorted(by) for owner, by in told.auroc.items()} == {
        "site-1": ["site-3"], "site-2": ["site-1", "site-3"], "site-3": ["site-1"],
    }  # fmt: skip
    assert told.silent == {"site-2": "no answer before the deadline"}


def test_who_went_away_after_its_scores_is_named(tmp_path):
    told, _ = crossed(tmp_path, told=[*NAMES, "site-9"])
    assert told.silent == {"site-9": "it went away after its final scores"}


def test_a_silent_site_is_named(tmp_path):
    told, _ = crossed(tmp_path, silent=(3,))
    assert sorted(told.auroc) == ["site-1", "site-2"]
    assert told.silent == {"site-3": "no answer before the deadline"}
