"""Explanations of a model whose reasons are known, against brute force and the methods' own axioms."""

import numpy as np
import pytest
import torch

from client.prediction.explain.where import (
    OfFrames,
    blurred,
    explain_where,
    grad_cam,
    integrated_gradients,
    occlusion,
)
from client.prediction.sequence import Seen
from common.models import build_model
from common.models.encoders import ENCODERS
from common.plan import Input, Model
from tests.helpers.known_model import SIDE, Bright, sequence, spot
from tests.helpers.plans import small_plan


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


@pytest.mark.slow
def test_every_encoder_can_be_explained():
    for name in ENCODERS:
        for more in ({}, {"pretrained": "0" * 64, "adapters": 2}):
            values = Model(encoder=name, width=8, embedding=8, hidden=8, **more)
            model = build_model(small_plan(input=Input(size=32), model=values)).eval()
            seen = Seen(torch.rand(2, 32, 32), torch.tensor([0.0, 2.0]))
            heat = grad_cam(model, OfFrames(model, seen, 0), seen)
            assert heat.shape == (2, 32, 32)
            assert torch.isfinite(heat).all()
