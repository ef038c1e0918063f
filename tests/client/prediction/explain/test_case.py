"""All that is explained about one case: numbers that agree with their parts, and no identifier among them."""

import json
import math

import pytest

from client.prediction.explain.case import numbers, short
from tests.helpers.known_model import explained


def test_the_numbers_are_those_of_the_parts():
    known = explained()
    tree = numbers(known)
    assert len(tree["visits"]) == len(known.case.pixels)
    for t, visit in enumerate(tree["visits"]):
        assert visit["position"] == known.case.positions[t]
        assert visit["score_after"] == pytest.approx(float(known.when.running[t]))
    assert tree["turning_visit"] == known.turning + 1  # people count from 1
    assert tree["probability"] == known.probability


def test_the_probability_is_the_calibrated_one_of_the_last_score():
    for temperature in (1.0, 2.0):
        known = explained(temperature=temperature)
        score = float(known.when.running[-1])
        assert known.probability == pytest.approx(1 / (1 + math.exp(-score / temperature)), rel=1e-4)


def test_maps_show_what_speaks_for_the_answer_that_was_given():
    yes = explained()
    assert yes.called
    assert numbers(yes)["maps_show"] == "what speaks for it"
    no = explained(upside_down=True)
    assert not no.called
    assert numbers(no)["maps_show"] == "what speaks against it"


def test_a_finding_is_called_by_its_own_threshold():
    known = explained(finding="effusion", pneumonia=0.5, effusion=0.9999)
    assert (known.threshold_chosen, known.threshold, known.called) == (True, pytest.approx(0.9999), False)
    unknown = explained(finding="effusion", pneumonia=0.9999)
    assert (unknown.threshold_chosen, unknown.threshold, unknown.called) == (False, 0.5, True)


def test_the_patient_is_not_among_the_numbers():
    assert "Smith" not in json.dumps(numbers(explained()))


def test_two_findings_have_two_codes_of_plain_letters():
    names = ["ground_glass_opacity_left", "ground_glass_opacity_right", "pneumonia", "a" * 16, "a" * 17]
    names += ["肺炎", "肺癌", "Lungenentzündung"]
    codes = [short(name) for name in names]
    assert len(set(codes)) == len(names)
    assert max(map(len, codes)) <= 16
    assert all(code.isascii() for code in codes)
