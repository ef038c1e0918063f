"""Each federated method's part at the site, against its formula; and what a site keeps, over restarts."""

import numpy as np
import pytest
import torch

from client.compute.batches import collate
from client.imaging.cohort import Cohort
from client.methods import personal_weights, train_site
from client.methods.memory import KEPT, SiteMemory
from client.methods.task import Task
from client.training.local import train_round
from client.training.schedule import rate_factor
from common import wire
from common.errors import DataError
from common.models import build_model
from common.models.personal import personal_names
from common.plan import Strategy, Training
from common.seeds import torch_generator
from tests.helpers.cohorts import make_cohort
from tests.helpers.plans import small_plan

CPU = torch.device("cpu")
PLAIN = Training(batch_size=4, learning_rate=0.05, momentum=0.0, weight_decay=0.0, clip_norm=None)


@pytest.fixture
def cohort(tmp_path):
    return Cohort.open(make_cohort(tmp_path / "c", 40))


def plan_of(name, options=None, training=PLAIN):
    return small_plan(strategy=Strategy(name=name, options=options or {}), training=training)


def work(plan, cohort, memory, round=1, start=None):
    model = build_model(plan)
    weights = start or wire.get_weights(model)
    return (*train_site(Task(model, cohort, plan, "here", round, CPU, weights, memory)), model)


def test_fedavg_is_plain_training(cohort, tmp_path):
    plan = plan_of("FedAvg")
    model = build_model(plan)
    start = wire.get_weights(model)
    train_round(model, cohort, plan, "here", 1, CPU)
    _, update, _ = work(plan, cohort, SiteMemory(None))
    for name, local in wire.get_weights(model).items():
        np.testing.assert_array_equal(update[name], local - start[name])


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


@pytest.mark.parametrize("name", ["FedBN", "FedPer"])
def test_what_stays_does_not_leave_and_is_there_after_a_restart(cohort, tmp_path, name):
    plan = plan_of(name)
    own = personal_names(plan, build_model(plan))
    assert own == {
        n
        for n in wire.get_weights(build_model(plan))
        if (n.startswith("head.") if name == "FedPer" else _is_norm(n))
    }
    _, update, model = work(plan, cohort, SiteMemory(tmp_path))
    assert all(not update[n].any() for n in own)
    assert all(update[n].any() for n in update.keys() - own)
    kept = personal_weights(plan, model, SiteMemory(tmp_path), 2)  # a new object: what a restart has
    assert kept.keys() == own
    assert all(np.array_equal(kept[n], wire.get_weights(model)[n]) for n in own)
    start = wire.get_weights(build_model(plan))
    again = build_model(plan)
    wire.set_weights(again, {**start, **kept})
    train_round(again, cohort, plan, "here", 2, CPU)
    _, second, _ = work(plan, cohort, SiteMemory(tmp_path), 2)
    trained = wire.get_weights(again)
    assert all(np.array_equal(second[n], trained[n] - start[n]) for n in second.keys() - own)


def _is_norm(name):
    return any(part in name for part in ("features.1.", "features.4.", "features.7.", "head.1."))


def test_ditto_trains_a_model_of_its_own_near_the_global_one(cohort, tmp_path):
    longer = PLAIN.model_copy(update={"epochs": 4, "clip_norm": 1.0})
    update = work(plan_of("FedAvg", training=longer), cohort, SiteMemory(None))[1]
    start = wire.get_weights(build_model(plan_of("FedAvg")))
    distances = []
    for strength in (0.0, 1.0, 20.0):
        plan = plan_of("Ditto", {"lambda_": strength}, longer)
        memory = SiteMemory(tmp_path / str(strength))
        found = work(plan, cohort, memory)[1]
        assert all(np.array_equal(found[n], update[n]) for n in update)  # the global part is FedAvg's
        own = memory.before(2)
        distances.append(wire.l2_norm({n: own[n] - start[n] for n in own}))
    assert distances[0] > distances[1] > distances[2] > 0
    assert distances[2] < 0.5 * distances[0]


def test_a_round_asked_for_again_starts_from_what_was_there_before_it(tmp_path):
    memory = SiteMemory(tmp_path)
    assert memory.before(1) == {}
    for number in range(1, 5):
        memory.keep(number, {"w": np.full(2, number, np.float32)})
    assert memory.before(5)["w"][0] == 4
    assert memory.before(4)["w"][0] == 3  # the server lost round 4, and asks again
    assert len(list(tmp_path.glob("round-*"))) == KEPT
    (tmp_path / "round-000004.safetensors").write_bytes(b"rubbish")
    with pytest.raises(DataError, match="cannot be read"):
        memory.before(5)
    with pytest.raises(DataError, match="no folder"):
        SiteMemory(None).before(1)


def test_fedprox_stays_closer_to_the_global_weights(cohort):
    moved = []
    for mu in (0.0, 5.0):
        _, update, _ = work(plan_of("FedProx", {"proximal_mu": mu}), cohort, SiteMemory(None))
        moved.append(wire.l2_norm(update))
    assert moved[1] < 0.9 * moved[0]
