"""Counts over the sites that tell them."""

from common import wire
from common.results.survey import Pooled, Survey
from tests.helpers.surveys import TOLD


def test_counts_are_summed_over_the_sites_that_tell_them():
    pooled = Survey.of(TOLD, ("pneumonia",)).pooled
    assert pooled[wire.N_TRAIN] == Pooled(patients=60, sites=3)
    assert pooled[wire.N_TEST] == Pooled(patients=10, sites=1)
    assert Survey.of({}, ("pneumonia",)).pooled[wire.N_TRAIN] == Pooled(patients=0, sites=0)
