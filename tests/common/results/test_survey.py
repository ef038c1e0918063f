"""Counts over the sites that tell them."""

from common import wire
from common.results.survey import Pooled, Survey, add_to_survey, read_survey
from tests.helpers.surveys import TOLD


def test_counts_are_summed_over_the_sites_that_tell_them():
    pooled = Survey.of(TOLD, ("pneumonia",)).pooled
    assert pooled[wire.N_TRAIN] == Pooled(patients=60, sites=3)
    assert pooled[wire.N_TEST] == Pooled(patients=10, sites=1)
    assert Survey.of({}, ("pneumonia",)).pooled[wire.N_TRAIN] == Pooled(patients=0, sites=0)


def test_who_told_before_a_resume_and_is_away_now_is_still_there(tmp_path):
    first, *others = sorted(TOLD)
    add_to_survey(tmp_path, TOLD, ("pneumonia",))
    add_to_survey(tmp_path, {first: TOLD[first]}, ("pneumonia",))
    assert sorted(read_survey(tmp_path).sites) == [first, *others]
