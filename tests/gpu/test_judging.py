"""A model says on a GPU what it says on a CPU: scores, attention, explanations."""

import numpy as np
import pytest
import torch

from client.compute.forward import attention_of, logits_of
from client.imaging.cohort import Cohort
from client.prediction.explain.trust import curves
from client.prediction.explain.when import explain_when
from client.prediction.explain.where import OfFrames, explain_where
from client.prediction.sequence import Seen
from client.training.evaluate import predict_logits
from common.models import build_model
from common.models.cnn_lstm import CNNLSTM
from common.plan import Model
from tests.helpers.cohorts import CPU, make_cohort
from tests.helpers.plans import small_plan

pytestmark = pytest.mark.gpu
ENCODERS = ["cnn3", "resnet18", "efficientnet_b0"]


def make_model(encoder, device, **more):
    torch.manual_seed(3)
    return CNNLSTM(Model(encoder=encoder, **more), 1).eval().to(device)


def sequence(device, n=4, side=64):
    frames = torch.rand(n, side, side, generator=torch.Generator().manual_seed(1))
    return Seen(frames.to(device), torch.tensor([0.0, 2.0, 9.0, 40.0])[:n].to(device))


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("pooling", ["attention", "last"])
def test_logits_and_attention_are_the_cpus(gpu, encoder, pooling):
    told = []
    for device in (CPU, gpu):
        model, seen = make_model(encoder, device, pooling=pooling, bidirectional=True), sequence(device)
        lengths = torch.tensor([4, 2])
        frames, gaps = seen.frames.expand(2, -1, -1, -1), seen.gaps.expand(2, -1)
        with torch.no_grad():
            told.append(
                (
                    logits_of(model, frames, gaps, lengths).cpu(),
                    attention_of(model, seen.frames, seen.gaps).cpu(),
                )
            )
    for here, there in zip(*told, strict=True):
        torch.testing.assert_close(there, here, rtol=1e-4, atol=1e-4)


def test_a_cohort_is_scored_as_on_the_cpu(gpu, tmp_path):
    cohort = Cohort.open(make_cohort(tmp_path / "c", 100))
    model, indices = build_model(small_plan()), np.arange(100)
    expected = predict_logits(model, cohort, indices, CPU)
    np.testing.assert_allclose(predict_logits(model.to(gpu), cohort, indices, gpu), expected, atol=1e-4)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_an_explanation_is_the_cpus(gpu, encoder):
    told = []
    for device in (CPU, gpu):
        model, seen = make_model(encoder, device), sequence(device)
        where = explain_where(model, seen, 0)
        told.append(
            (explain_when(model, seen, 0), where, curves(OfFrames(model, seen, 0), seen, where.occlusion))
        )
    (when, where, curve), (when_gpu, where_gpu, curve_gpu) = told
    assert when.turning(1.0) == when_gpu.turning(1.0)
    torch.testing.assert_close(when_gpu.running, when.running, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(when_gpu.influence, when.influence, rtol=1e-2, atol=1e-4)
    for name in ("grad_cam", "integrated", "occlusion"):
        here, there = getattr(where, name), getattr(where_gpu, name)
        assert ((here - there).norm() / here.norm()).item() < 1e-2, name
    np.testing.assert_allclose(np.stack(curve_gpu), np.stack(curve), atol=0.01)
