"""Evaluation, prediction and explanation judge by one forward pass, in one precision."""

import numpy as np
import pytest
import torch

from client.compute.forward import attention_of, logits_of
from client.imaging.cohort import Cohort
from client.prediction.explain.when import explain_when
from client.prediction.explain.where import OfFrames
from client.prediction.sequence import Seen, logits
from client.training.evaluate import predict_logits
from common.errors import RefusedError
from common.models import build_model
from tests.helpers.cohorts import make_cohort
from tests.helpers.plans import small_plan

CPU = torch.device("cpu")


@pytest.fixture
def model():
    return build_model(small_plan()).eval()


@pytest.fixture
def seen():
    frames = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(1))
    return Seen(frames, torch.tensor([0.0, 2.0, 9.0]))


def test_all_judge_by_one_forward_pass_in_float32(model, tmp_path):
    cohort = Cohort.open(make_cohort(tmp_path / "c", 6))
    i = int(np.argmax(cohort.lengths))
    frames = torch.from_numpy(cohort.frames(i).astype(np.float32) / np.float32(255))
    one = Seen(frames, torch.from_numpy(np.cumsum(cohort.gaps(i))))
    with torch.no_grad():
        evaluated = torch.from_numpy(predict_logits(model, cohort, np.array([i]), CPU))
        predicted = logits(model, [one])
        explained = OfFrames(model, one, 0)(one.frames[None])
        running = explain_when(model, one, 0).running[-1]
    assert torch.equal(evaluated, predicted)
    assert torch.equal(explained, predicted[:, 0])
    assert torch.allclose(running, predicted[0, 0], atol=1e-5)  # in a batch with shorter ones
    assert predicted.dtype == torch.float32


def test_on_a_cpu_nothing_is_rounded(model, seen):
    lengths = torch.tensor([3])
    with torch.no_grad():
        assert torch.equal(logits_of(model, seen.frames[None], seen.gaps[None], lengths),
                           model(seen.frames[None], seen.gaps[None], lengths))  # fmt: skip
        assert torch.equal(
            attention_of(model, seen.frames, seen.gaps),
            model.explain(seen.frames[None], seen.gaps[None], lengths)[1][0],
        )


def test_gradients_go_through_where_they_are_asked_for(model, seen):
    frames = seen.frames[None].clone().requires_grad_()
    logits_of(model, frames, seen.gaps[None], torch.tensor([3])).sum().backward()
    assert frames.grad is not None
    assert float(frames.grad.abs().sum()) > 0


def test_what_is_no_number_is_refused_and_not_ranked(model, seen, tmp_path):
    """Of finite weights, so large that the network overflows: NaN would get an AUROC of 0.5."""
    with torch.no_grad():
        for weights in model.parameters():
            weights.mul_(1e30)
    cohort = Cohort.open(make_cohort(tmp_path / "c", 6))
    with pytest.raises(RefusedError, match="no numbers"):
        predict_logits(model, cohort, np.arange(6), CPU)
    with pytest.raises(RefusedError, match="no numbers"):
        explain_when(model, seen, 0)
