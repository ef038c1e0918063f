import math

import numpy as np
import pytest
import torch

from client.governance.accounting import RoundCost, epsilon_rdp
from client.imaging.cohort import Cohort
from client.training.private.gradients import PrivateGradients
from client.training.private.patients import in_chunks, sequences_by_patient
from client.training.private.round import add_noise, sequence_loss, sum_clipped, train_private_round
from common import wire
from common.errors import RefusedError
from common.models import build_model
from common.plan import Augmentation, Privacy, Training
from tests.helpers.cohorts import CPU, make_cohort
from tests.helpers.plans import small_plan
from tests.helpers.private import as_patients, make_batch, private_plan


def test_the_noise_has_the_stated_deviation():
    p = torch.nn.Parameter(torch.zeros(1_000_000))
    p.grad = None
    add_noise([p], 1.3 * 0.7, 8, torch.Generator().manual_seed(1))
    assert p.grad.std().item() == pytest.approx(1.3 * 0.7 / 8, rel=0.01)
    assert abs(p.grad.mean().item()) < 1e-3
    halves = p.grad.chunk(2)  # drawn by threads: each has the deviation, and they are not the same draw
    assert all(h.std().item() == pytest.approx(1.3 * 0.7 / 8, rel=0.01) for h in halves)
    assert abs(torch.corrcoef(torch.stack(halves))[0, 1].item()) < 0.01
    p.grad = torch.full_like(p, 16.0)
    add_noise([p], 1e-9, 8, torch.Generator().manual_seed(1))
    assert p.grad.mean().item() == pytest.approx(2.0)


def test_empty_batches_get_noise_and_count(tmp_path):
    plan = private_plan(steps=5)
    cohort = Cohort.open(make_cohort(tmp_path / "c", 30, 0, plan))
    model = build_model(plan)
    before = wire.get_weights(model)
    cost = RoundCost(1e-12, 1.0, 5)  # nobody is ever drawn
    done = train_private_round(model, cohort, cohort.split(plan.split)["train"], plan, cost, 1, device=CPU)
    moved = np.concatenate([(w - before[k]).ravel() for k, w in wire.get_weights(model).items()])
    assert done.steps == 5
    assert math.isnan(done.loss)
    rates = [0.05 * f for f in rate_factors(plan, 5)]
    expected = math.sqrt(sum(r**2 for r in rates)) * 1.0 / plan.training.batch_size
    assert moved.std() == pytest.approx(expected, rel=0.05)


def rate_factors(plan, steps):
    from client.training.schedule import rate_factor

    return [rate_factor(plan.training.schedule, k / (plan.rounds * steps)) for k in range(steps)]


def test_two_rounds_are_never_the_same_whatever_the_plans_seed(tmp_path):
    plan = private_plan()
    cohort = Cohort.open(make_cohort(tmp_path / "c", 30, 0, plan))
    weights = []
    for _ in range(2):
        model = build_model(plan)
        train_private_round(
            model, cohort, cohort.split(plan.split)["train"], plan, RoundCost.of(plan, 20), 1, device=CPU
        )
        weights.append(wire.get_weights(model)["head.0.weight"])
        assert "forward" not in model.encoder.__dict__  # the engine has gone
    assert not np.array_equal(*weights)


@pytest.mark.slow
def test_the_terms_follow_from_the_plan_and_the_sites_size():
    plan = small_plan(
        rounds=10, privacy=Privacy(epsilon=4.0, delta=1e-4, steps=20), training=Training(batch_size=16)
    )
    small, large = RoundCost.of(plan, 100), RoundCost.of(plan, 1000)
    assert (small.sample_rate, large.sample_rate) == (0.16, 0.016)
    assert small.noise > large.noise
    for cost in (small, large):
        from client.governance.accounting import epsilon_prv

        spent = epsilon_prv([(cost.noise, cost.sample_rate, 200)], 1e-4)
        assert 3.8 < spent <= 4.02
        assert spent < epsilon_rdp([(cost.noise, cost.sample_rate, 200)], 1e-4)
    assert RoundCost.of(plan, 10).sample_rate == 1.0
    with pytest.raises(RefusedError, match="delta"):
        RoundCost.of(plan, 10_000)


@pytest.mark.slow
def test_private_training_learns(tmp_path):
    """With little noise the small plan's easy cohort is learned; the very same path with much noise is
    not."""
    losses = {}
    for noise in (0.1, 50.0):
        training = Training(batch_size=32, learning_rate=0.5, momentum=0.5, weight_decay=0.0)
        plan = small_plan(
            rounds=1, privacy=Privacy(noise_multiplier=noise, delta=1e-3, steps=60), training=training
        )
        cohort = Cohort.open(make_cohort(tmp_path / str(noise), 120, 0, plan))
        model = build_model(plan)
        indices = cohort.split(plan.split)["train"]
        train_private_round(model, cohort, indices, plan, RoundCost.of(plan, len(indices)), 1, device=CPU)
        (everyone,) = in_chunks(cohort, sequences_by_patient(cohort, indices, 1), None, CPU)
        batch = everyone.batch
        with torch.no_grad():
            losses[noise] = (
                sequence_loss(model(batch.frames, batch.gaps, batch.lengths), batch.labels).mean().item()
            )
    assert losses[0.1] < 0.35
    assert losses[50.0] > 0.6


def one_step(tmp_path, plan, cohort):
    """The update of one step on everybody with no noise to speak of."""
    model = build_model(plan)
    before = wire.get_weights(model)
    cost = RoundCost(1.0, 1e-9, 1)
    train_private_round(model, cohort, cohort.split(plan.split)["train"], plan, cost, 1, device=CPU)
    return np.concatenate([(w - before[k]).ravel() for k, w in wire.get_weights(model).items()])


def test_versions_of_a_sequence_are_one_patients_and_clipped_together(tmp_path):
    cohort = Cohort.open(make_cohort(tmp_path / "c", 30))
    once = one_step(tmp_path, private_plan(steps=1, clip=0.1), cohort)
    same = one_step(
        tmp_path, private_plan(steps=1, clip=0.1, augmentations=3), cohort
    )  # three equal versions of each
    assert np.linalg.norm(same - once) <= 1e-4 * np.linalg.norm(once)
    moved = private_plan(steps=1, clip=0.1, augmentations=3)
    moved = moved.model_copy(
        update={"training": moved.training.model_copy(update={"augmentation": Augmentation(shift=0.3)})}
    )
    n_patients = cohort.count_patients(cohort.split(moved.split)["train"])
    rate = moved.training.learning_rate * rate_factors(moved, 1)[0]
    found = np.linalg.norm(one_step(tmp_path, moved, cohort))
    assert 0.0 < found <= rate * 0.1 * n_patients / moved.training.batch_size * (1 + 1e-5)
    assert np.linalg.norm(one_step(tmp_path, moved, cohort) - once) > 1e-3 * np.linalg.norm(once)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_patient_whose_images_overflow_counts_as_nothing(size):
    """The sum is that of the others, where it was no number, which tells of the patient without noise."""
    plan = private_plan(augmentations=2)
    model = build_model(plan.model_copy(update={"findings": ("a", "b")}))
    batch, names = make_batch(8, 5, 3, 32, 1)
    batch.frames[np.flatnonzero(names == "p3")] *= 1e38

    def gradient(people):
        engine, g = PrivateGradients(model, 1.0), torch.Generator().manual_seed(1)
        model.zero_grad()
        chunks = [
            as_patients(batch, names, np.flatnonzero(np.isin(names, people[k : k + size])))
            for k in range(0, len(people), size)
        ]
        sum_clipped(engine, lambda: chunks, plan, g)
        engine.detach()
        return torch.cat([p.grad.flatten() for p in model.parameters()])

    everybody = gradient(["p0", "p1", "p2", "p3", "p4"])
    others = gradient(["p0", "p1", "p2", "p4"])
    assert others.norm() > 0.5
    torch.testing.assert_close(everybody, others, rtol=1e-4, atol=1e-6)
