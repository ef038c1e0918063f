"""Explanations of a model whose reasons are known, against brute force and the methods' own axioms."""

import numpy as np
import pytest
import torch
from torch import nn

from client.prediction.explain.trust import correlation, curves, examine, randomised
from client.prediction.explain.when import When, explain_when
from client.prediction.explain.where import (
    OfFrames,
    blurred,
    explain_where,
    integrated_gradients,
    last_convolution,
    occlusion,
)
from client.prediction.sequence import Seen, logits
from common.models import build_model
from common.plan import Model
from tests.helpers.plans import small_plan

SIDE = 24


@pytest.fixture
def model():
    return build_model(small_plan(model=Model(width=8, embedding=16, hidden=16))).eval()


def sequence(t=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Seen(torch.rand(t, SIDE, SIDE, generator=generator), torch.tensor([0.0, 3.0, 5.0, 12.0, 20.0])[:t])


class Bright(nn.Module):
    """A "model" that says yes to brightness in one corner of the last image, minus that of the first."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(1, 1, 1))

    def explain(self, frames, gaps, lengths):
        weights = nn.functional.one_hot(lengths - 1, frames.shape[1]).float()
        return self(frames, gaps, lengths), weights

    def forward(self, frames, gaps, lengths):
        flat = frames.reshape(-1, 1, SIDE, SIDE)
        frames = frames + 0 * self.encoder(flat).view_as(frames)  # Grad-CAM looks for a convolution
        corner = frames[:, :, 2:8, 14:20].mean((2, 3))
        last = corner.gather(1, lengths[:, None] - 1)
        return 10 * (last - corner[:, :1])


def spot(t=4, at=2):
    """A bright square in the corner from image `at` on."""
    frames = torch.full((t, SIDE, SIDE), 0.2)
    frames[at:, 2:8, 14:20] = 0.9
    return Seen(frames, torch.arange(t).float() * 2)


def test_a_shorter_sequence_is_what_it_would_have_been_without_the_image(model):
    seen = sequence()
    without = seen.only([0, 2, 3])
    assert without.gaps.tolist() == [0.0, 5.0, 7.0]
    assert seen.only([1, 2]).gaps.tolist() == [0.0, 2.0]
    one_by_one = [logits(model, [s]) for s in (seen, without, seen.only([1]))]
    together = logits(model, [seen, without, seen.only([1])])
    torch.testing.assert_close(together, torch.cat(one_by_one), rtol=1e-4, atol=1e-5)


def test_when_is_what_the_model_says_of_every_beginning_and_of_every_gap(model):
    seen = sequence()
    found = explain_when(model, seen, 0)
    with torch.no_grad():
        for t in range(4):
            assert found.running[t] == pytest.approx(
                float(logits(model, [seen.only(list(range(t + 1)))])[0, 0]), abs=1e-4
            )
            rest = [i for i in range(4) if i != t]
            expected = float(logits(model, [seen])[0, 0] - logits(model, [seen.only(rest)])[0, 0])
            assert found.influence[t] == pytest.approx(expected, abs=1e-4)
    assert float(found.attention.sum()) == pytest.approx(1.0, abs=1e-5)
    single = explain_when(model, sequence(1), 0)
    assert (single.influence.tolist(), single.turning) == ([0.0], 0)


@pytest.mark.parametrize("at", [1, 2, 3])
def test_the_turning_visit_is_the_one_at_which_it_changed(at):
    found = explain_when(Bright(), spot(at=at), 0)
    assert found.turning == at


def test_the_turning_visit_of_a_no_is_the_one_that_speaks_against():
    falling = When(torch.ones(4) / 4, torch.tensor([3.0, 2.5, -2.0, -2.5]), torch.zeros(4))
    assert falling.turning == 2


def test_the_maps_find_the_only_place_that_matters():
    seen = spot()
    maps = explain_where(Bright(), seen, 0)
    for heat in (maps.occlusion, maps.integrated[-1]):
        top, left = divmod(int(heat.argmax()), SIDE)
        assert 2 <= top < 8
        assert 14 <= left < 20
        assert heat.min() >= 0
    assert maps.integrated[1].max() < 0.05 * maps.integrated[-1].max()  # the images between are not looked at
    against = explain_where(Bright(), seen, 0, sign=-1.0)
    assert against.occlusion.max() < 0.05 * maps.occlusion.max()


def test_integrated_gradients_add_up_to_the_difference(model, monkeypatch):
    """Completeness (Sundararajan et al., 2017): attributions sum to f(x) - f(baseline), up to the steps'
    error."""
    from captum.attr import IntegratedGradients

    seen = sequence()
    function = OfFrames(model, seen, 0)
    frames = seen.frames[None]
    baseline = blurred(frames.flip(3), 0.05)
    found = IntegratedGradients(function).attribute(frames, baselines=baseline, n_steps=64)
    assert float(found.sum()) == pytest.approx(float(function(frames) - function(baseline)), abs=0.02)
    ours = integrated_gradients(function, seen)
    assert ours.shape == seen.frames.shape
    assert ours.min() >= 0


def test_occlusion_is_the_fall_of_the_score_by_hand():
    seen = spot()
    function = OfFrames(Bright(), seen, 0)
    heat = occlusion(function, seen)
    window, stride = round(0.15 * SIDE), max(1, round(0.0625 * SIDE))
    total, count = np.zeros((SIDE, SIDE)), np.zeros((SIDE, SIDE))
    whole = float(function(seen.frames[None]))
    places = range(0, SIDE - window + stride, stride)
    for top in places:
        for left in places:
            changed = seen.frames.clone()
            box = np.s_[:, top : top + window, left : left + window]
            changed[box] = seen.frames.flip(2)[box]
            total[box[1:]] += whole - float(function(changed[None]))
            count[box[1:]] += 1
    np.testing.assert_allclose(heat.numpy(), np.maximum(total / count, 0), atol=1e-4)


def test_every_encoder_can_be_explained():
    for name in ("cnn3", "resnet18", "efficientnet_b0"):
        model = build_model(small_plan(model=Model(encoder=name, width=8, embedding=8, hidden=8))).eval()
        maps = explain_where(model, Seen(torch.rand(2, 32, 32), torch.tensor([0.0, 2.0])), 0)
        assert isinstance(last_convolution(model.encoder), nn.Conv2d)
        for heat in (maps.grad_cam, maps.integrated):
            assert heat.shape == (2, 32, 32)
            assert torch.isfinite(heat).all()


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
