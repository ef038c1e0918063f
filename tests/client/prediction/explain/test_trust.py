"""Whether a map is to be believed: good maps and bad ones told apart."""

import pytest
import torch

from client.prediction.explain.trust import correlation, curves, examine, randomised
from client.prediction.explain.where import (
    OfFrames,
    explain_where,
    occlusion,
)
from tests.helpers.known_model import SIDE, Bright, sequence, spot


def test_trust_tells_a_good_map_from_a_bad_one():
    seen = spot()
    function = OfFrames(Bright(), seen, 0)
    good = occlusion(function, seen)
    bad = torch.zeros(SIDE, SIDE)
    bad[14:20, 2:8] = 1.0  # the mirror's mirror: elsewhere
    bad[20:, :] = 0.5
    (out, into), (worse_out, worse_into) = curves(function, seen, good), curves(function, seen, bad)
    assert out[0] == pytest.approx(into[-1])  # nothing taken out, everything put in
    assert out[-1] == pytest.approx(into[0])
    assert out.mean() < worse_out.mean()
    assert into.mean() > worse_into.mean()
    assert correlation(good, good) == pytest.approx(1.0)
    assert correlation(good, torch.zeros_like(good)) == 0.0


def test_random_weights_are_other_weights_of_the_same_spread(model):
    other = randomised(model)
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        if one.numel() > 500:
            assert float(two.std()) == pytest.approx(float(one.std()), rel=0.2)
            assert not torch.equal(one, two)
    seen = sequence()
    found = examine(model, seen, 0, explain_where(model, seen, 0))
    assert abs(found.randomised) < 0.9
    assert 0 <= found.deletion_area <= 1
    assert 0 <= found.insertion_area <= 1
