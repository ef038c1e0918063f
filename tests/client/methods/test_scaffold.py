"""SCAFFOLD at the site, against its formula."""

import numpy as np
import pytest
import torch

from client.compute.batches import collate
from client.methods import train_site
from client.methods.memory import SiteMemory
from client.methods.task import Task
from client.training.schedule import rate_factor
from common import wire
from common.models import build_model
from common.seeds import torch_generator
from tests.helpers.cohorts import CPU
from tests.helpers.site_rounds import plan_of


def by_hand(plan, cohort, start, correction):
    """SCAFFOLD's y <- y - η (g(y) - c_i + c), by torch's own autograd; and the sum of the rates."""
    model = build_model(plan)
    wire.set_weights(model, start)
    train = cohort.split(plan.split)["train"]
    generator = torch_generator(plan.seed, "train", "here", 1)
    order = train[torch.randperm(len(train), generator=generator).numpy()]
    steps, rates = -(-len(train) // 4), 0.0
    for step in range(steps):
        batch = collate(cohort, order[4 * step : 4 * step + 4]).to(CPU)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            model(batch.frames, batch.gaps, batch.lengths), batch.labels
        )
        names, parameters = zip(*model.named_parameters(), strict=True)
        rate = 0.05 * rate_factor(plan.training.schedule, step / (plan.rounds * steps))
        with torch.no_grad():
            for name, p, g in zip(names, parameters, torch.autograd.grad(loss, parameters), strict=True):
                p -= rate * (g + torch.from_numpy(correction[name]))
        rates += rate
    return wire.get_weights(model), rates


def test_scaffold_follows_its_formula(cohort, tmp_path):
    plan = plan_of("SCAFFOLD")
    weights = wire.get_weights(build_model(plan))
    rng = np.random.default_rng(0)
    c, c_i = (
        {n: 0.01 * rng.standard_normal(w.shape).astype(np.float32) for n, w in weights.items()}
        for _ in range(2)
    )
    memory = SiteMemory(tmp_path / "m")
    memory.keep(1, c_i)
    start = weights | {f"control/{n}": v for n, v in c.items()}
    model = build_model(plan)
    empty = SiteMemory(tmp_path / "other")  # c_i = 0
    done, update = train_site(Task(model, cohort, plan, "here", 1, CPU, start, empty))
    y, rates = by_hand(plan, cohort, weights, c)
    assert done.rates == pytest.approx(rates)
    for n in weights:
        np.testing.assert_allclose(update[n], y[n] - weights[n], rtol=1e-3, atol=1e-6)
        expected = -c[n] + (weights[n] - y[n]) / rates  # option II, c_i = 0
        np.testing.assert_allclose(update[f"control/{n}"], expected, rtol=1e-2, atol=2e-4)
    # In the next round the site starts from the c_i that it kept.
    second = train_site(Task(build_model(plan), cohort, plan, "here", 2, CPU, start, memory))[1]
    kept = memory.before(3)
    for n in weights:
        np.testing.assert_allclose(kept[n], c_i[n] + second[f"control/{n}"], rtol=1e-4, atol=1e-6)
