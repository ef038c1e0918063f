"""A final answer crosses the wire as it is, or is refused with a word on what is wrong."""

import json
from dataclasses import replace

import pytest

from common.advice import UNSURE
from common.errors import WireError
from common.results.final import FinalReport, answer_text, read_answer, read_final, write_final
from common.results.run import Gain
from tests.helpers.results import final_answer, verdict

FINDINGS = ("pneumonia",)
GAIN = Gain(value=0.1, ci=(-0.1, 0.2), p=0.3, advice=UNSURE)


@pytest.mark.parametrize("alone", [False, True])
def test_what_is_told_is_read(alone, tmp_path):
    answer = final_answer()
    if alone:
        answer = replace(answer, alone=verdict(0.7), gain=GAIN)
    assert read_answer(answer_text(answer), FINDINGS, alone) == answer
    report = FinalReport(sites={"north": answer}, silent={"south": "its policy"})
    assert read_final(tmp_path) is None
    write_final(tmp_path, report)
    assert read_final(tmp_path) == report


def changed(**changes):
    return {**json.loads(answer_text(final_answer())), **changes}


def scores_of(verdict):
    return {key: value for key, value in verdict.items() if key not in ("n_patients", "n_sequences")}


CELLS = {"positive": [{"n": 12, "n_patients": 12, "mean": 0.1, "spread": 0.2, "skew": 0.0}], "negative": []}
WRONG = {
    "nothing": {},
    "more": changed(more=1),
    "another finding": changed(test={"fracture": CELLS}),
    "a scanner's name": changed(subgroups={"scanner": {"North's own": {"pneumonia": CELLS}}}),
    "a group nobody agreed on": changed(subgroups={"sex": {"Jane Doe": {"pneumonia": CELLS}}}),
    "a score over one": changed(federated={**changed()["federated"], "auroc": 1.5}),
    "a name among the scores": changed(
        federated={**changed()["federated"], "findings": {"Jane Doe": scores_of(changed()["federated"])}}
    ),
    "an infinite logit": changed(
        test={"pneumonia": {**CELLS, "negative": [{**CELLS["positive"][0], "mean": 1e9}]}}
    ),
    "a negative count": changed(
        test={"pneumonia": {**CELLS, "negative": [{**CELLS["positive"][0], "n": -1}]}}
    ),
    "a model alone that nobody asked for": changed(alone=changed()["federated"]),
    "free text": changed(gain={"value": 0.0, "ci": [0.0, 0.0], "p": 0.5, "advice": "call Jane Doe"}),
    "many cells": changed(test={"pneumonia": {**CELLS, "negative": CELLS["positive"] * 201}}),
    "more sequences than any hospital has": changed(
        test={"pneumonia": {**CELLS, "negative": [{**CELLS["positive"][0], "n": 15_000}] * 2}}
    ),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_what_was_not_agreed_is_refused(wrong):
    with pytest.raises(WireError):
        read_answer(json.dumps(wrong), FINDINGS, alone=False)


def test_free_text_is_refused_where_a_gain_is_agreed_on():
    wrong = replace(final_answer(), alone=verdict(0.7), gain=replace(GAIN, advice="call Jane Doe"))
    with pytest.raises(WireError, match="no score can be"):
        read_answer(answer_text(wrong), FINDINGS, alone=True)
