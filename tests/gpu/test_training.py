"""A round on a GPU is the round of the CPU, within what bf16 rounds; it does not wait, and it repeats itself."""

import copy

import pytest
import torch

from client.compute.batches import Batch
from client.imaging.cohort import Cohort
from client.training.local import Pull, _Steps, train_round
from client.training.optimizer import Optimizer
from common import wire
from common.models import build_model
from common.plan import Augmentation, Model, Training
from tests.helpers.cohorts import CPU, make_cohort
from tests.helpers.plans import small_plan

pytestmark = pytest.mark.gpu
MOVING = Augmentation(shift=0.1, rotate=10, scale=0.1, flip=True, contrast=0.2, brightness=0.1)
ENCODERS = ["cnn3", "resnet18", "efficientnet_b0"]


def plan_of(encoder="cnn3", optimizer="sgd", epochs=2, batch_size=8, **model):
    training = Training(
        epochs=epochs, batch_size=batch_size, learning_rate=0.01, optimizer=optimizer, augmentation=MOVING,
        clip_norm=1.0,
    )  # fmt: skip
    return small_plan(training=training, model=Model(encoder=encoder, **model))


def updates(plan, cohort, device):
    """The flattened update of one round, and its loss."""
    model = build_model(plan).to(device)
    start = torch.cat([p.detach().flatten() for p in model.parameters()])
    done = train_round(model, cohort, plan, "north", 1, device)
    return torch.cat([p.detach().flatten() for p in model.parameters()]).sub(start).cpu(), done


@pytest.fixture
def cohort(tmp_path):
    return Cohort.open(make_cohort(tmp_path / "cohort", 40))


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_step_moves_the_weights_as_on_the_cpu(gpu, cohort, encoder):
    """One step: over many, what bf16 rounds away drives two trainings apart."""
    plan = plan_of(encoder, epochs=1, batch_size=64)
    expected, there = updates(plan, cohort, CPU)
    found, here = updates(plan, cohort, gpu)
    assert here.steps == there.steps
    assert here.loss == pytest.approx(there.loss, abs=0.02)
    cosine = torch.nn.functional.cosine_similarity(found, expected, dim=0).item()
    assert cosine > (0.9 if encoder == "efficientnet_b0" else 0.97), cosine  # on the CPU in bf16: 0.93


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_without_rounding_a_round_is_the_cpu_s(gpu, cohort, optimizer, monkeypatch):
    monkeypatch.setattr(
        "client.training.local.autocast", lambda device: torch.autocast("cuda", enabled=False)
    )
    plan = plan_of(optimizer=optimizer)
    expected, _ = updates(plan, cohort, CPU)
    found, _ = updates(plan, cohort, gpu)
    error = ((found - expected).norm() / expected.norm()).item()
    assert error < (1e-3 if optimizer == "sgd" else 2e-2), error  # Adam divides by what may be near zero


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_repeated_round_gives_the_very_bits(gpu, cohort, encoder):
    plan = plan_of(encoder, bidirectional=encoder == "cnn3")
    first, _ = updates(plan, cohort, gpu)
    for _ in range(2):
        assert torch.equal(updates(plan, cohort, gpu)[0], first)


def test_a_step_never_waits_for_the_gpu(gpu, no_questions):
    plan = plan_of()
    model = build_model(plan).to(gpu).train()
    weight = torch.ones(1, device=gpu)
    anchor = [torch.zeros_like(p) for p in model.parameters()]
    steps = _Steps(model, plan, weight, torch.Generator(), Pull(anchor, 0.1, anchor), round=1, n_sequences=16)
    batch = Batch(
        torch.randint(0, 255, (4, 3, 16, 16), dtype=torch.uint8), torch.ones(4, 3), torch.tensor([3, 1, 2, 3]),
        torch.tensor([[1.0], [0.0], [1.0], [float("nan")]]),
    ).pinned()  # fmt: skip
    steps.take(batch.to(gpu))  # the first step loads kernels
    with no_questions():
        for _ in range(3):
            steps.take(batch.to(gpu))


def test_the_optimisers_are_torchs(gpu):
    for name, theirs in (("sgd", torch.optim.SGD), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)):
        settings = Training(
            optimizer=name, learning_rate=0.1, weight_decay=0.01, momentum=0.9, clip_norm=None
        )
        model = torch.nn.Linear(5, 3).to(gpu)
        twin = copy.deepcopy(model)
        ours = Optimizer(model.parameters(), settings)
        more = {"momentum": 0.9} if name == "sgd" else {}
        reference = theirs(twin.parameters(), lr=0.1, weight_decay=0.01, **more)
        for k in range(4):
            x = torch.full((2, 5), 1.0 + k, device=gpu)
            for one in (model, twin):
                one.zero_grad()
                one(x).square().sum().backward()
            ours.step(0.1)
            reference.step()
        torch.testing.assert_close(model.weight, twin.weight)


def test_the_weights_that_leave_are_the_gpu_s(gpu):
    model = build_model(plan_of()).to(gpu)
    weights = wire.get_weights(model)
    other = build_model(plan_of().model_copy(update={"seed": 9})).to(gpu)
    wire.set_weights(other, weights)
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
