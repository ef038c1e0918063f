"""Counts over the sites that tell them."""

from common import wire
from common.results.survey import Pooled, Survey

NAMES = wire.query_numbers(("pneumonia",))
TOLD = {
    "north": {**dict.fromkeys(NAMES, 10.0), wire.DEVICE: "cpu"},
    "south": {
        **dict.fromkeys(NAMES, 20.0),
        wire.N_TEST: float("nan"),
        "length-9+": float("nan"),
        wire.DEVICE: "cpu",
    },
    "west": {
        **dict.fromkeys(NAMES, 30.0),
        "length-9+": float("nan"),
        wire.N_TEST: float("nan"),
        wire.DEVICE: "cuda",
    },
}


def test_counts_are_summed_over_the_sites_that_tell_them():
    pooled = Survey.of(TOLD, ("pneumonia",)).pooled
    assert pooled[wire.N_TRAIN] == Pooled(patients=60, sites=3)
    assert pooled[wire.N_TEST] == Pooled(patients=10, sites=1)
    assert Survey.of({}, ("pneumonia",)).pooled[wire.N_TRAIN] == Pooled(patients=0, sites=0)
