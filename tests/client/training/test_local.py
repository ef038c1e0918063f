from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from client.compute.batches import Batch, collate
from client.training.evaluate import cross_entropy, predict
from client.training.local import Pull, _Steps, add_proximal_gradient, class_weights, masked_loss, train_round
from client.training.schedule import rate_factor
from common.models import build_model
from common.plan import Augmentation, Model, Training
from common.seeds import torch_generator
from tests.helpers.cohorts import CPU
from tests.helpers.plans import small_plan


def flat(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_a_round_equals_a_plain_loop_with_torch_s_optimiser(cohort):
    plan = small_plan(
        training=Training(epochs=2, batch_size=4, learning_rate=0.05, weight_decay=0.01, clip_norm=0.7)
    )
    model, reference = build_model(plan), build_model(plan)
    done = train_round(model, cohort, plan, "here", 2, CPU)
    train = cohort.split(plan.split)["train"]
    generator = torch_generator(plan.seed, "train", "here", 2)
    optimizer = torch.optim.SGD(reference.parameters(), lr=1.0, momentum=0.9, weight_decay=0.01)
    per_epoch = -(-len(train) // 4)
    step = 2 * per_epoch  # one round of two epochs is over
    for _ in range(2):
        order = train[torch.randperm(len(train), generator=generator).numpy()]
        for start in range(0, len(order), 4):
            batch = collate(cohort, order[start : start + 4]).to(CPU)
            optimizer.zero_grad()
            logits = reference(batch.frames, batch.gaps, batch.lengths)
            F.binary_cross_entropy_with_logits(logits, batch.labels).backward()
            torch.nn.utils.clip_grad_norm_(reference.parameters(), 0.7)
            optimizer.param_groups[0]["lr"] = 0.05 * rate_factor(
                plan.training.schedule, step / (2 * 2 * per_epoch)
            )
            optimizer.step()
            step += 1
    assert done.steps == 2 * per_epoch
    torch.testing.assert_close(flat(model), flat(reference), rtol=1e-5, atol=1e-6)


def test_a_round_is_the_same_every_time_and_another_at_another_site(cohort):
    plan = small_plan(training=Training(batch_size=4, augmentation=Augmentation(shift=0.1, contrast=0.2)))
    weights = []
    for site, number in (("a", 1), ("a", 1), ("b", 1), ("a", 2)):
        model = build_model(plan)
        train_round(model, cohort, plan, site, number, CPU)
        weights.append(flat(model))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[0], weights[3])


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("pooling", ["last", "mean", "attention"])
def test_every_optimiser_trains_every_pooling(cohort, optimizer, pooling):
    rate = {"sgd": 0.1, "adam": 0.01, "adamw": 0.01}[optimizer]
    base = small_plan()
    plan = small_plan(
        rounds=1,
        model=base.model.model_copy(update={"pooling": pooling}),
        training=Training(epochs=25, batch_size=4, optimizer=optimizer, learning_rate=rate),
    )
    model = build_model(plan)
    indices = cohort.split(plan.split)["train"]
    before = cross_entropy(predict(model, cohort, indices, CPU), cohort.labels[indices])
    train_round(model, cohort, plan, "a", 1, CPU)
    after = cross_entropy(predict(model, cohort, indices, CPU), cohort.labels[indices])
    assert after < 0.5 * before


def test_unknown_labels_do_not_count():
    logits, labels = (
        torch.tensor([[0.3, -2.0], [1.0, 0.5]]),
        torch.tensor([[1.0, float("nan")], [0.0, float("nan")]]),
    )
    expected = F.binary_cross_entropy_with_logits(logits[:, 0], labels[:, 0])
    torch.testing.assert_close(masked_loss(logits, labels, torch.ones(2)), expected)
    logits.requires_grad_()
    masked_loss(logits, torch.full((2, 2), float("nan")), torch.ones(2)).backward()
    assert (logits.grad == 0).all()


def test_balanced_classes_weigh_the_same():
    labels = np.array([[1, 0], [0, 0], [0, 1], [0, np.nan]], np.float32)
    plan = small_plan(findings=("a", "b"), training=Training(class_weighting="balanced"))
    assert class_weights(labels, plan).tolist() == [3.0, 2.0]
    assert class_weights(labels, small_plan(findings=("a", "b"))).tolist() == [1.0, 1.0]


def test_the_proximal_gradient_is_mu_times_the_distance():
    p, start = torch.tensor([3.0, 1.0]), torch.tensor([1.0, 1.0])
    p.grad = torch.tensor([0.5, 0.5])
    add_proximal_gradient([p], [start], 0.1)
    assert p.grad.tolist() == pytest.approx([0.5 + 0.1 * 2.0, 0.5])


@pytest.mark.slow
def test_early_stopping_keeps_the_best_epoch(cohort):
    plan = small_plan(
        training=Training(epochs=40, batch_size=4, learning_rate=0.8, early_stopping=2, clip_norm=None)
    )
    model = build_model(plan)
    done = train_round(model, cohort, plan, "a", 1, CPU)
    assert done.steps < 40 * -(-len(cohort.split(plan.split)["train"]) // 4)
    best = flat(model)
    shorter = small_plan(rounds=2, training=plan.training.model_copy(update={"early_stopping": 100}))
    other = build_model(shorter)
    train_round(other, cohort, shorter, "a", 1, CPU)
    indices = cohort.split(plan.split)["validation"]

    def loss(m):
        return cross_entropy(predict(m, cohort, indices, CPU), cohort.labels[indices])

    assert loss(other) <= loss(model) + 1e-9  # more patience can only find a better epoch
    assert not torch.equal(best, flat(build_model(plan)))


def test_a_step_asks_nothing_of_the_device(monkeypatch):
    """On a `meta` device there is nothing to ask: whatever would make a host wait for a GPU raises."""
    monkeypatch.setattr("client.training.local.autocast", lambda device: nullcontext())  # it knows no `meta`
    training = Training(batch_size=4, augmentation=Augmentation(shift=0.1, contrast=0.1), clip_norm=1.0)
    plan = small_plan(training=training, model=Model(width=4, embedding=8, hidden=8))
    model = build_model(plan).to("meta")
    anchor = [torch.zeros_like(p) for p in model.parameters()]
    weight, pull = torch.ones(1, device="meta"), Pull(anchor, 0.1, anchor)
    steps = _Steps(model, plan, weight, torch.Generator(), pull, round=1, n_sequences=4)
    batch = Batch(
        torch.zeros(3, 4, 16, 16, dtype=torch.uint8),
        torch.ones(3, 4),
        torch.tensor([4, 1, 2]),
        torch.ones(3, 1),
    )
    assert steps.take(batch.to(torch.device("meta"))).is_meta
