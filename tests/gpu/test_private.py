"""The private engine on a GPU: exactly clipped, and what one patient adds is never more than the bound."""

import copy

import numpy as np
import pytest
import torch

from client.governance.accounting import RoundCost
from client.imaging.cohort import Cohort
from client.training.private.gradients import PrivateGradients
from client.training.private.round import add_noise, train_private_round
from common.models import build_model
from common.models.cnn_lstm import CNNLSTM
from common.plan import Model
from tests.helpers.cohorts import make_cohort
from tests.helpers.private import (
    as_patients,
    doubled,
    loss_of,
    make_batch,
    patients_on,
    private_plan,
    slow_twin,
)

pytestmark = pytest.mark.gpu
MODELS = {
    "cnn3": Model(width=8, embedding=16, hidden=12, layers=2, bidirectional=True, context=1),
    "resnet18": Model(encoder="resnet18", embedding=16, hidden=12),
    "efficientnet_b0": Model(encoder="efficientnet_b0", embedding=16, hidden=12),
}


def clipped_sum(model, patients, clip):
    engine = PrivateGradients(model, clip)
    for p in model.parameters():
        p.grad = None
    norms = engine.accumulate(patients, loss_of)
    engine.detach()
    return torch.cat([p.grad.flatten() for p in model.parameters()]).double().cpu(), norms.cpu()


@pytest.mark.parametrize("name", list(MODELS))
def test_the_clipped_sum_is_that_of_a_loop_over_patients_on_the_cpu(gpu, name):
    torch.manual_seed(0)
    model = CNNLSTM(MODELS[name], 2)
    batch, names = make_batch(9, 6, 4, 40, 3)
    _, norms = slow_twin(
        model.double(),
        doubled(batch),
        names,
        1e9,
    )
    clip = float(np.median(list(norms.values())))
    expected, norms = slow_twin(
        model,
        doubled(batch),
        names,
        clip,
    )
    found, found_norms = clipped_sum(
        copy.deepcopy(model).float().to(gpu),
        patients_on(as_patients(batch, names, np.arange(len(names))), gpu),
        clip,
    )
    error = ((found - expected).norm() / expected.norm()).item()
    assert error < 1e-4, error
    np.testing.assert_allclose(sorted(found_norms.tolist()), sorted(norms.values()), rtol=1e-4)


@pytest.mark.parametrize("name", list(MODELS))
def test_no_patient_adds_more_than_the_bound(gpu, name):
    """Also where the norm is not taken of the very gradient that is added (Gram matrices)."""
    torch.manual_seed(1)
    model = CNNLSTM(MODELS[name], 2).to(gpu)
    batch, names = make_batch(6, 3, 3, 24, 4)
    for person in np.unique(names):
        alone = patients_on(as_patients(batch, names, np.flatnonzero(names == person)), gpu)
        added, norms = clipped_sum(model, alone, 0.01)
        assert norms.item() > 0.02
        assert added.norm().item() == pytest.approx(0.01, rel=1e-4)


def test_the_noise_has_the_stated_size_and_never_repeats(gpu):
    parameters = [torch.zeros(300, 400, device=gpu, requires_grad=True)]
    generator = torch.Generator(gpu).manual_seed(5)
    drawn = []
    for _ in range(2):
        parameters[0].grad = torch.zeros(300, 400, device=gpu)
        add_noise(parameters, 3.0, 4, generator)
        drawn.append(parameters[0].grad.clone())
    assert not torch.equal(*drawn)
    assert drawn[0].std().item() == pytest.approx(0.75, rel=0.01)
    assert abs(drawn[0].mean().item()) < 0.01


@pytest.mark.parametrize("chunk", [None, 3])
def test_a_private_round_trains(gpu, tmp_path, chunk):
    plan = private_plan(chunk=chunk)
    cohort = Cohort.open(make_cohort(tmp_path / "c", 30))
    indices = cohort.split(plan.split)["train"]
    model = build_model(plan).to(gpu)
    before = [p.detach().clone() for p in model.parameters()]
    done = train_private_round(model, cohort, indices, plan, RoundCost.of(plan, len(indices)), 1, device=gpu)
    assert done.steps == 3
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert not any(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_a_pass_never_waits_for_the_gpu(gpu, no_questions):
    model = CNNLSTM(MODELS["cnn3"], 2).to(gpu)
    batch, names = make_batch(6, 4, 3, 24, 4)
    patients = patients_on(as_patients(batch, names, np.arange(6)), gpu)
    engine = PrivateGradients(model, 1.0)
    engine.accumulate(patients, loss_of)
    with no_questions():
        engine.accumulate(patients, loss_of)
