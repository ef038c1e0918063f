"""What decides about correlated noise is worked out rightly: the workload, the sensitivity, the noise itself."""

import math
import runpy
from collections import deque
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from client.training.optimizer import Optimizer
from client.training.schedule import rate_factor
from common.plan import Plan, Privacy

ROOT = Path(__file__).parents[2]
STEPS, ROUNDS = 4, 3


@pytest.fixture(scope="module")
def benchmark():
    return SimpleNamespace(**runpy.run_path(str(ROOT / "benchmarks/correlated_noise.py")))


@pytest.fixture(scope="module")
def plan():
    return Plan(name="small", rounds=ROUNDS, privacy=Privacy(epsilon=1.0, delta=1e-5, steps=STEPS))


def test_the_workload_is_what_the_optimiser_does_with_gradients(benchmark, plan):
    gradients = torch.from_numpy(np.random.default_rng(0).normal(size=STEPS * ROUNDS))
    weight, moved = torch.zeros(1, dtype=torch.float64, requires_grad=True), []
    training = plan.training.model_copy(update={"clip_norm": None, "weight_decay": 0.0})
    for t, gradient in enumerate(gradients):
        if t % STEPS == 0:
            optimizer = Optimizer([weight], training)  # it restarts each round
        weight.grad = gradient[None]
        optimizer.step(rate_factor(training.schedule, t / len(gradients)))
        moved.append(-weight.item())
    assert (benchmark.descent(plan) @ gradients).tolist() == pytest.approx(moved)


def test_columns_of_one_group_share_no_row_and_are_of_length_one(benchmark, plan):
    strategy = benchmark.banded(benchmark.descent(plan), 3)
    assert strategy.norm(dim=0).tolist() == pytest.approx([1.0] * len(strategy))
    for first in range(3):
        products = strategy[:, first::3].T @ strategy[:, first::3]
        assert torch.equal(products - torch.diag(products.diag()), torch.zeros_like(products))


def test_more_bands_are_never_worse_for_the_same_noise(benchmark, plan):
    workload = benchmark.descent(plan)
    errors = [benchmark.error(workload, benchmark.banded(workload, b)).item() for b in (1, 2, 4, 12)]
    assert errors[0] == pytest.approx(benchmark.error(workload, torch.eye(len(workload)).double()).item())
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.9 * errors[0]


def test_the_sensitivity_is_that_of_the_worst_patient(benchmark):
    strategy = torch.from_numpy(np.tril(np.random.default_rng(1).uniform(size=(11, 11))))
    worst = max(
        math.dist(strategy[:, [t for t in range(11) if t % 3 == first]].sum(1), [0.0] * 11)
        for first in range(3)
    )
    assert benchmark.sensitivity(strategy, 3).item() == pytest.approx(worst)
    made = benchmark.toeplitz(benchmark.sums(11), 3)
    assert benchmark.sensitivity(made, 3).item() == pytest.approx(1.0)
    assert torch.allclose(made[4:, 4:], made[:-4, :-4])


def test_a_sites_noise_solves_for_independent_noise(benchmark, plan):
    strategy = benchmark.banded(benchmark.sums(STEPS * ROUNDS), 3)
    site = SimpleNamespace(
        noise=2.0, secret=torch.Generator().manual_seed(5), bands=3, strategy=strategy, past=deque(maxlen=3)
    )
    rows = torch.stack([benchmark.Site.correlated(site, t, 7) for t in range(STEPS * ROUNDS)]).double()
    same = torch.Generator().manual_seed(5)
    drawn = torch.stack(
        [torch.normal(0.0, 2.0, (7,), generator=same) for _ in range(STEPS * ROUNDS)]
    ).double()
    assert torch.allclose(strategy @ rows, drawn, atol=1e-5)


def test_without_sampling_the_noise_is_that_of_so_many_whole_steps(benchmark):
    assert benchmark.noise(1.0, 1.2, 9) == pytest.approx(3 * benchmark.noise(1.0, 1.0, 1), rel=0.02)
